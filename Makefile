# Build, run and prove Tokenbooth. `make` alone lists the targets.

SHELL       := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

FUZZTIME     ?= 50000x
LINT_VERSION := v2.15.0
LINT         := .tools/golangci-lint-$(LINT_VERSION)

.PHONY: help go run build test test-chart chart check lint bench bench-quick bench-growth bench-guard bench-build pgo fuzz screenshots deps image-root deb release

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The server takes make's place in its shell, so that it gets the signals that make gets.
run: go ## start a throw-away Tokenbooth on this machine
	@CGO_ENABLED=0 go build -o bin/tokenbooth ./cmd/tokenbooth
	@exec bin/tokenbooth dev

build: go ## build the static binary, bin/tokenbooth
	@deploy/package/binary.sh bin/tokenbooth

# The race detector needs cgo and a C compiler; without them the tests run all the same.
# It does not watch SQLite itself, which is C translated to Go and many times slower with it.
# Without -pgo=off every package would be built once more, for the tests of cmd/tokenbooth.
test: go deps test-chart ## run every test
	@race="-race -gcflags=modernc.org/...=-race=false"; cc=$$(go env CC); \
	if [ "$$(go env CGO_ENABLED)" != 1 ] || ! command -v "$${cc%% *}" >/dev/null; then \
		race=; echo "test: no C compiler or no cgo, so without the race detector"; \
	fi; \
	go test $$race -pgo=off -timeout 30m -shuffle=on ./...

# Its tests read files of the whole tree, which go test does not look at before it takes an old result.
test-chart: go ## render the Helm chart and check what comes out
	@cd deploy/helm && go test -count=1 -timeout 15m ./...

chart: go ## bring the chart's copies, schema and table of values up to date
	@cd deploy/helm && go test -count=1 -run '^Test(Copies|Settings|TableOfValues)$$' . -update

check: lint test ## everything CI checks

lint: $(LINT) ## check format, vet, go.mod and the linters
	@unformatted=$$(gofmt -l .); \
	if [ -n "$$unformatted" ]; then echo "gofmt -w these files:"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	go mod tidy -diff
	$(LINT) run
	cd deploy/helm && go vet ./... && go mod tidy -diff && $(CURDIR)/$(LINT) run

# The linter is a tool, not a dependency: it stays out of go.mod.
$(LINT):
	GOBIN=$(CURDIR)/.tools go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)
	@mv .tools/golangci-lint $@

# The program that is measured is the one that users run: static and stripped.
bench: bench-build ## measure exchanges and verification against their floors (BENCH_JSON=path)
	@bin/bench -server bin/tokenbooth

bench-quick: bench-build ## the core of that, in 40 seconds
	@bin/bench -server bin/tokenbooth -quick

bench-growth: bench-build ## measure how cost grows with keys, workspaces and replicas
	@bin/bench growth -server bin/tokenbooth

bench-guard: bench-build
	@bin/bench -server bin/tokenbooth -quick -guard

bench-build: go build
	@.ci/deps servers
	@CGO_ENABLED=0 go build -o bin/bench ./deploy/bench

# Go may spend a minute on making one input smaller, so a short run would do nothing else.
fuzz: ## run each fuzz target FUZZTIME (50000x, or 1m)
	@{ grep -rHoE '^func Fuzz[A-Za-z0-9_]*' --include='*_test.go' . || true; } | while IFS=: read -r file target; do \
		target=$${target#func }; \
		echo "$$target in $${file%/*}"; \
		go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 100x "$${file%/*}"; \
	done

pgo: bench-build ## take the profile by which the binary is optimised, cmd/tokenbooth/default.pgo
	@mkdir -p bin/profiles
	@bin/bench -server bin/tokenbooth -quick -profile bin/profiles
	@go tool pprof -proto bin/profiles/embedded.pprof bin/profiles/PostgreSQL-and-Redis.pprof > cmd/tokenbooth/default.pgo

screenshots: go deps ## take the pictures of the console for the documentation
	go test ./cmd/tokenbooth -run '^TestPictures$$' -count=1 -pictures $(CURDIR)/deploy/docs/images

# The directory is made anew: what an earlier build left is no part of it.
image-root: build ## build the container image's root file system, bin/image-root (as root)
	@rm -rf bin/image-root
	@deploy/package/image-root.sh bin/tokenbooth bin/image-root

deb: build ## build the Debian package into bin/
	@deploy/package/deb.sh bin/tokenbooth bin

release: go ## build archives, packages, bills of materials and sums into bin/release
	@rm -rf bin/release
	@deploy/release/release.sh bin/release

go:
	@command -v go >/dev/null || { echo "please install Go 1.26 or newer (https://go.dev/dl) and put it on the PATH" >&2; exit 1; }

deps: ## install what the tests need and this machine lacks
	@.ci/deps
