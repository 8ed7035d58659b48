// The console's one script. Every page works without it; it adds copying, times that stay current,
// filters that answer at once, shortcuts, and a guard before a secret is lost. Nothing here makes
// HTML out of text.

const all = (selector, within = document) => [...within.querySelectorAll(selector)];

// Says something to people who do not see it change.
const announce = (text) => {
	const region = document.getElementById("status");
	region.textContent = "";
	setTimeout(() => { region.textContent = text; }, 50); // emptied first, so that a repetition is told too
};

// Copy buttons: data-copy is the ID of what is copied.
const copying = () => {
	for (const button of all("[data-copy]")) {
		button.hidden = false;
		button.addEventListener("click", async () => {
			const source = document.getElementById(button.dataset.copy);
			const label = button.textContent;
			try {
				await navigator.clipboard.writeText(source.value ?? source.textContent);
				announce(`${button.dataset.copied ?? label.replace(/^Copy\s*/, "")} copied`);
				const first = button.firstChild;
				const before = first.textContent;
				first.textContent = "Copied ";
				setTimeout(() => { first.textContent = before; }, 2000);
			} catch {
				source.select?.();
				announce("Copying is not allowed here: press Ctrl+C");
			}
		});
	}
};

// Times are relative when the page is made; they stay so, and their tooltips are in local time.
const units = [["year", 31536000, 60480000], ["month", 2592000, 7776000], ["day", 86400, 129600], ["hour", 3600, 5400], ["minute", 60, 90]];
const relative = (then) => {
	const seconds = (then - Date.now()) / 1000;
	const distance = Math.abs(seconds);
	if (distance < 10) return "just now";
	const [name, size] = units.find(([, , from]) => distance >= from) ?? ["second", 1];
	const n = Math.round(distance / size);
	const words = `${n} ${name}${n === 1 ? "" : "s"}`;
	return seconds < 0 ? `${words} ago` : `in ${words}`;
};
const times = () => {
	for (const element of all("time[data-relative]")) {
		const then = new Date(element.dateTime);
		element.textContent = relative(then);
		const from = element.dataset.from ? `, from ${element.dataset.from}` : "";
		element.title = then.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "long" }) + from;
	}
};

// A list that is filtered while typing: data-filter is the selector of what is shown or hidden.
const filters = () => {
	for (const input of all("[data-filter]")) {
		input.addEventListener("keydown", (event) => { if (event.key === "Enter") event.preventDefault(); }); // it may be in a form
		input.addEventListener("input", () => {
			const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
			let shown = 0;
			for (const item of all(input.dataset.filter)) {
				const text = (item.dataset.text ?? item.textContent).toLowerCase();
				item.hidden = !words.every((word) => text.includes(word));
				shown += item.hidden ? 0 : 1;
			}
			announce(`${shown} shown`);
		});
	}
};

// Sections with data-tab become tabs.
const tabs = () => {
	for (const group of all("[data-tabs]")) {
		const sections = all("[data-tab]", group);
		const list = document.createElement("div");
		list.className = "tablist";
		list.setAttribute("role", "tablist");
		list.setAttribute("aria-label", group.dataset.tabs);
		const choose = (chosen, focus) => sections.forEach((section, i) => {
			section.hidden = i !== chosen;
			const button = list.children[i];
			button.setAttribute("aria-selected", String(i === chosen));
			button.tabIndex = i === chosen ? 0 : -1;
			if (focus && i === chosen) button.focus();
		});
		sections.forEach((section, i) => {
			const button = document.createElement("button");
			button.type = "button";
			button.textContent = section.dataset.tab;
			button.setAttribute("role", "tab");
			section.id ||= `tab-${i}-${section.dataset.tab.replace(/\W+/g, "-").toLowerCase()}`;
			button.id = `${section.id}-label`;
			button.setAttribute("aria-controls", section.id);
			section.setAttribute("role", "tabpanel");
			section.setAttribute("aria-labelledby", button.id);
			for (const heading of all("h3", section)) heading.hidden = true;
			button.addEventListener("click", () => choose(i));
			button.addEventListener("keydown", (event) => {
				const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
				if (step) choose((i + step + sections.length) % sections.length, true);
			});
			list.append(button);
		});
		group.prepend(list);
		choose(0);
	}
};

// A form is sent once: its buttons rest until the next page is there, or this one is shown again.
const once = () => {
	const rest = (resting) => all("form button:not([type=button])").forEach((button) => {
		if (resting || button.dataset.resting) button.disabled = resting;
		resting ? (button.dataset.resting = "yes") : delete button.dataset.resting;
	});
	for (const form of all("form[method=post]:not([target], [data-stays])")) {
		// After this event, so that the button that was pressed is sent too.
		form.addEventListener("submit", () => setTimeout(() => rest(true)));
	}
	addEventListener("pageshow", () => rest(false));
};

// Checkboxes: data-all is the selector of those that follow this one.
const selecting = () => {
	for (const box of all("[data-all]")) {
		box.hidden = false;
		box.addEventListener("change", () => {
			for (const other of all(box.dataset.all)) {
				other.checked = box.checked;
				other.dispatchEvent(new Event("change", { bubbles: true }));
			}
		});
	}
};

// A button with data-count says how many of those boxes are ticked, and rests while none is.
const counting = () => {
	for (const button of all("[data-count]")) {
		const boxes = all(button.dataset.count);
		const count = () => {
			const n = boxes.filter((box) => box.checked).length;
			button.textContent = n === 0 ? button.dataset.none : n === 1 ? button.dataset.one : button.dataset.many.replace("#", n);
			button.setAttribute("aria-disabled", String(n === 0));
		};
		for (const box of boxes) box.addEventListener("change", count);
		button.addEventListener("click", (event) => {
			if (boxes.some((box) => box.checked)) return;
			event.preventDefault();
			announce(button.dataset.first);
		});
		count();
		addEventListener("pageshow", count); // browsers tick boxes again when one goes back
	}
};

// Keys: / searches, n makes something new, g and a letter goes somewhere, ? lists them.
const shortcuts = () => {
	if (document.documentElement.dataset.shortcuts === "off") return;
	const { base, workspace } = document.body.dataset;
	const places = workspace ? { k: "/keys", a: "/audit", h: "" } : {};
	const search = () => {
		const field = document.querySelector("[data-search]");
		const folded = field?.closest("details");
		if (folded) folded.open = true;
		field?.focus();
	};
	let going = false;
	addEventListener("keydown", (event) => {
		if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, [contenteditable], dialog")) return;
		if (going && event.key in places) location.assign(workspace + places[event.key]);
		else if (going && event.key === "w") location.assign(base);
		else if (event.key === "/") search();
		else if (event.key === "n") document.querySelector("[data-new]")?.click();
		else if (event.key === "?") document.getElementById("shortcuts")?.showModal();
		else {
			going = event.key === "g";
			return;
		}
		going = false;
		event.preventDefault();
	});
};

// Menus close when something else is clicked, or with Escape.
const menus = () => {
	const close = (except) => all("details.menu[open]").forEach((menu) => { if (menu !== except) menu.open = false; });
	addEventListener("click", (event) => close(event.target.closest("details.menu")));
	addEventListener("keydown", (event) => {
		if (event.key !== "Escape") return;
		const open = document.querySelector("details.menu[open]");
		if (open) {
			open.open = false;
			open.querySelector("summary").focus();
		}
	});
};

// Passkeys: a form with data-passkey gets options from data-begin, lets the browser make an answer, and sends it.
const toBytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
const toText = (buffer) => buffer ? btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "") : undefined;
const credentials = {
	async create(options) {
		const one = await navigator.credentials.create({ publicKey: {
			...options, challenge: toBytes(options.challenge), user: { ...options.user, id: toBytes(options.user.id) },
			excludeCredentials: options.excludeCredentials?.map((known) => ({ ...known, id: toBytes(known.id) })),
		} });
		const { clientDataJSON, attestationObject } = one.response;
		return [one, { clientDataJSON: toText(clientDataJSON), attestationObject: toText(attestationObject), transports: one.response.getTransports?.() }];
	},
	async get(options) {
		const one = await navigator.credentials.get({ publicKey: {
			...options, challenge: toBytes(options.challenge),
			allowCredentials: options.allowCredentials?.map((known) => ({ ...known, id: toBytes(known.id) })),
		} });
		const { clientDataJSON, authenticatorData, signature, userHandle } = one.response;
		return [one, { clientDataJSON: toText(clientDataJSON), authenticatorData: toText(authenticatorData), signature: toText(signature), userHandle: toText(userHandle) }];
	},
};
const passkeyTrouble = {
	NotAllowedError: "It was cancelled, or took too long. Nothing was changed.",
	InvalidStateError: "This device has a passkey of yours already.",
	NotSupportedError: "This device cannot make a passkey.",
};
const passkeyAnswer = async (form) => {
	const response = await fetch(form.dataset.begin, { method: "POST" });
	if (response.redirected) return location.reload(); // signed out meanwhile
	const options = await response.json();
	if (!response.ok) throw new Error(options.error);
	const [one, answer] = await credentials[form.dataset.passkey](options);
	form.elements.answer.value = JSON.stringify({
		id: one.id, rawId: toText(one.rawId), type: one.type, authenticatorAttachment: one.authenticatorAttachment ?? undefined,
		clientExtensionResults: {}, response: answer,
	});
	form.submit();
};
const passkeys = () => {
	if (!window.PublicKeyCredential) return;
	for (const note of all("[data-passkey-without]")) note.hidden = true;
	for (const form of all("form[data-passkey]")) {
		const button = form.querySelector("button");
		const says = form.querySelector("[data-passkey-says]");
		form.hidden = false;
		form.addEventListener("submit", async (event) => {
			event.preventDefault();
			event.stopImmediatePropagation(); // it is sent when the answer is there
			button.disabled = true;
			says.textContent = "";
			try {
				await passkeyAnswer(form);
			} catch (error) {
				says.textContent = passkeyTrouble[error.name] ?? "It did not work. Try again in a moment.";
				if (error.name === "Error") says.textContent = error.message;
				button.disabled = false;
			}
		});
		addEventListener("pageshow", () => { button.disabled = false; });
	}
};

// What a page has for the script alone, or only without it: data-needs-script and data-without-script. And what is
// only for one value of a field: data-when is "name=value".
const conditions = () => {
	for (const element of all("[data-needs-script]")) element.hidden = false;
	for (const element of all("[data-without-script]")) element.hidden = true;
	for (const element of all("[data-when]")) {
		const [name, value] = element.dataset.when.split("=");
		const fields = all(`[name="${name}"]`);
		const apply = () => {
			const field = fields.find((one) => one.type !== "radio" || one.checked);
			element.hidden = fields.length > 0 && field?.value !== value;
		};
		for (const field of fields) field.addEventListener("change", apply);
		addEventListener("pageshow", apply); // browsers restore fields
		apply();
	}
};

// The permission picker: a level ticks the boxes that it stands for, and a box makes the level custom.
const reads = ["read", "list", "get", "view"];
const picker = () => {
	const level = (row, value) => row.querySelector(`input[type=radio][value="${value}"]:enabled`);
	const boxes = (row) => all("input[type=checkbox]", row);
	const actionOf = (box) => box.value.split(":")[1];
	const tick = (row, wanted) => {
		for (const box of boxes(row)) box.checked = !box.disabled && wanted(actionOf(box));
	};
	const choose = (row, value) => {
		const radio = level(row, value);
		if (!radio) return false;
		radio.checked = true;
		if (value !== "custom") tick(row, (action) => value === "write" || (value === "read" && reads.includes(action)));
		else row.querySelector("details").open = true;
		radio.dispatchEvent(new Event("input", { bubbles: true }));
		return true;
	};
	for (const row of all("[data-permission]")) {
		for (const radio of all("input[type=radio]", row)) {
			radio.addEventListener("change", () => choose(row, radio.value));
			if (radio.checked && radio.value !== "custom") choose(row, radio.value);
		}
		for (const box of boxes(row)) box.addEventListener("change", () => { level(row, "custom").checked = true; });
	}
	const catalogue = () => all("[data-permission]").filter((row) => !row.closest("details.rights"));
	for (const button of all("[data-level-all]")) {
		button.addEventListener("click", () => {
			const rows = button.dataset.levelAll === "none" ? all("[data-permission]") : catalogue().filter((row) => !row.hidden);
			const changed = rows.filter((row) => choose(row, button.dataset.levelAll)).length;
			announce(`${changed} changed`);
		});
	}
	for (const link of all("[data-template]")) {
		link.addEventListener("click", (event) => {
			event.preventDefault();
			const wanted = link.dataset.template.split(" ");
			for (const row of all("[data-permission]")) choose(row, "none");
			for (const row of catalogue()) {
				if (wanted.length === 1 && choose(row, wanted[0])) continue;
				const fits = (action) => wanted.includes(action) || wanted[0] === "write";
				if (!boxes(row).some((box) => !box.disabled && fits(actionOf(box)))) continue;
				choose(row, "custom");
				tick(row, fits);
			}
			all('[name="permissions"][value="chosen"]').forEach((radio) => { radio.checked = true; radio.dispatchEvent(new Event("change", { bubbles: true })); });
			link.closest("form").dispatchEvent(new Event("input"));
			announce(`${link.textContent} chosen`);
		});
	}
};

// The sentence that says what a form would make: the server writes it, a moment after the last change.
const summaries = () => {
	for (const form of all("form[data-summarise]")) {
		let waiting, newest = 0;
		const ask = async () => {
			const number = ++newest;
			try {
				const response = await fetch(form.dataset.summarise, { method: "POST", body: new URLSearchParams(new FormData(form)) });
				if (!response.ok || response.redirected) return;
				const { summary, twin } = await response.json();
				if (number !== newest) return;
				const says = document.getElementById("summary");
				if (says.textContent !== summary) says.textContent = summary;
				const warns = form.querySelector("[data-twin]");
				if (twin && warns.textContent !== twin) announce(twin);
				warns.textContent = twin;
			} catch { /* the sentence stays as it is */ }
		};
		const soon = () => {
			clearTimeout(waiting);
			waiting = setTimeout(ask, 250);
		};
		form.addEventListener("input", soon);
		form.addEventListener("change", soon);
		addEventListener("pageshow", soon);
	}
};

// The page of a secret: leaving is guarded until it is stored, and nothing of it stays behind.
const reveal = () => {
	const page = document.querySelector("[data-reveal]");
	if (!page) return;
	const stored = page.querySelector("[data-stored]");
	const done = page.querySelector("[data-done]");
	const update = () => done.setAttribute("aria-disabled", String(!stored.checked));
	let staying = false;
	stored.addEventListener("change", update);
	update();
	done.addEventListener("click", (event) => {
		if (stored.checked) return;
		event.preventDefault();
		announce("Tick “I have stored the secret” first");
		stored.focus();
	});
	for (const form of all("form[data-stays]", page)) {
		form.addEventListener("submit", () => {
			staying = true; // a download leaves nothing
			setTimeout(() => { staying = false; }, 1000);
		});
	}
	addEventListener("beforeunload", (event) => { if (!stored.checked && !staying) event.preventDefault(); });
	addEventListener("pagehide", () => {
		for (const field of all("#secret, [data-secret], #token", page)) field.value = field.textContent = "";
	});
	addEventListener("pageshow", (event) => { if (event.persisted) location.replace(page.dataset.reveal); });
	waiting(page.querySelector("[data-first-use]"));
	trying(page);
};

// Waits until a secret is used, for ten minutes.
const waiting = (place) => {
	const says = place.querySelector("[data-says]");
	const link = place.querySelector("a");
	const until = Date.now() + 600000;
	const ask = async () => {
		try {
			const response = await fetch(place.dataset.firstUse, { headers: { Accept: "application/json" } });
			if (!response.ok || response.redirected) return stop();
			const use = await response.json();
			if (use.used_at) return found(use);
		} catch { /* perhaps the next time */ }
		if (Date.now() > until) return stop();
		setTimeout(ask, 2000);
	};
	const stop = () => {
		says.textContent = "Not used yet.";
		link.hidden = false;
	};
	const found = (use) => {
		const when = document.createElement("time");
		when.dateTime = use.used_at;
		when.dataset.relative = "";
		const from = [use.address, use.agent].filter(Boolean).join(", ");
		says.replaceChildren("First exchange ", when, ` from ${from}`);
		place.classList.replace("faint", "ok-text");
		times();
		announce(says.textContent);
	};
	says.textContent = "Waiting for first use…";
	link.hidden = true;
	ask();
};

// Exchanges the secret and shows what the token says.
const trying = (page) => {
	const form = page.querySelector("[data-try]");
	const result = page.querySelector("[data-tried]");
	const says = result.querySelector("[data-says]");
	const table = result.querySelector("[data-claims]");
	const token = result.querySelector("[data-token]");
	const show = (claims) => {
		const body = table.querySelector("tbody");
		for (const row of all("tr", body)) {
			row.hidden = !(row.dataset.claim in claims);
			row.children[1].textContent = words(row.dataset.claim, claims[row.dataset.claim]);
		}
		for (const name of Object.keys(claims)) {
			if (body.querySelector(`[data-claim="${CSS.escape(name)}"]`)) continue;
			const row = body.rows[0].cloneNode(true);
			row.dataset.claim = row.children[0].firstChild.textContent = name;
			row.children[1].textContent = words(name, claims[name]);
			row.children[2].textContent = "Configured for the audience.";
			row.hidden = false;
			body.append(row);
		}
	};
	const words = (name, value) => {
		if (name === "iat" || name === "exp") return `${value} (${new Date(value * 1000).toLocaleString()})`;
		return typeof value === "string" ? value : JSON.stringify(value);
	};
	form.addEventListener("submit", async (event) => {
		event.preventDefault();
		result.hidden = false;
		table.hidden = token.hidden = true;
		try {
			const response = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)) });
			const answer = await response.json();
			if (!response.ok) throw new Error(`${answer.error}: ${answer.error_description}`);
			show(JSON.parse(new TextDecoder().decode(toBytes(answer.access_token.split(".")[1]))));
			document.getElementById("token").value = answer.access_token;
			table.hidden = token.hidden = false;
			says.textContent = `It works: a token for ${answer.expires_in} seconds. It says:`;
		} catch (error) {
			says.textContent = error.name === "Error" ? `It was refused. ${error.message}` : "There was no answer. Try again in a moment.";
		}
		announce(says.textContent);
	});
};

// Who has taken a revocation in: data-progress is the address that tells, asked until there is nothing to wait for.
const following = () => {
	const section = document.querySelector("[data-progress]");
	if (!section) return;
	const text = section.querySelector("[data-progress-text]");
	const bar = section.querySelector("[data-progress-bar]");
	const look = async () => {
		const response = await fetch(section.dataset.progress);
		if (!response.ok || response.redirected) return; // signed out meanwhile
		const now = await response.json();
		for (const { name, text: state, done } of now.verifiers) {
			const pill = all("[data-verifier]", section).find((one) => one.dataset.verifier === name);
			if (!pill || pill.textContent === state) continue;
			pill.textContent = state;
			pill.className = `pill ${done ? "ok" : "warn"}`;
		}
		if (bar) [bar.max, bar.value] = [now.known, now.caught_up];
		if (text.textContent !== now.text) announce(text.textContent = now.text);
		if (!now.settled && Date.now() < end) setTimeout(tryLook, 2000);
	};
	const tryLook = () => look().catch(() => setTimeout(tryLook, 2000)); // the server may be away for a moment
	const end = Date.now() + 3600000;
	setTimeout(tryLook, 2000);
};

// A slug follows the name in the field that data-slug-of names, until somebody types another.
const slugs = () => {
	for (const slug of all("[data-slug-of]")) {
		const name = document.getElementById(slug.dataset.slugOf);
		const made = () => name.value.toLowerCase().split(/[^a-z0-9]+/).filter(Boolean).join("-").slice(0, 63).replace(/-+$/, "");
		let follows = slug.value === "" || slug.value === made();
		name.addEventListener("input", () => { if (follows) slug.value = made(); });
		slug.addEventListener("input", () => { follows = slug.value === ""; });
	}
};

copying();
times();
setInterval(times, 30000);
filters();
tabs();
conditions();
picker();
summaries();
reveal();
passkeys();
once();
selecting();
counting();
shortcuts();
menus();
slugs();
following();
document.getElementById("problem")?.focus();
for (const element of all("[data-announce]")) announce(element.textContent);
