package main

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// secretText is the three secrets of an installation, as configuration writes
// them.
type secretText struct {
	Pepper           string `json:"pepper"`
	IDKey            string `json:"id_key"`
	KeyEncryptionKey string `json:"key_encryption_key"`
}

// named lists them with the names of their files and settings.
func (s *secretText) named() []namedSecret {
	return []namedSecret{
		{"pepper", &s.Pepper, "1:"},
		{"id_key", &s.IDKey, ""},
		{"key_encryption_key", &s.KeyEncryptionKey, "1:"},
	}
}

type namedSecret struct {
	name   string
	value  *string
	prefix string // of a new value: its version or ID
}

// generate makes a new value: 32 random bytes in base64.
func (n namedSecret) generate() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return n.prefix + base64.StdEncoding.EncodeToString(b[:])
}

// generateSecrets makes all three.
func generateSecrets() secretText {
	var s secretText
	for _, n := range s.named() {
		*n.value = n.generate()
	}
	return s
}

// resolveSecrets completes the configured secrets. Beside SQLite, missing ones
// are files under the data directory, made at the first start; PostgreSQL may be
// shared by replicas on several machines, so there they must be configured.
func resolveSecrets(ctx context.Context, config *Config, db *schema.DB, log *slog.Logger) (secretText, error) {
	s := secretText{config.Secrets.Pepper, config.Secrets.IDKey, config.Secrets.KeyEncryptionKey}
	if db.Dialect() != schema.SQLite {
		return s, s.complete()
	}
	empty, err := db.Empty(ctx)
	if err != nil {
		return s, err
	}
	dir := filepath.Join(config.Data, "secrets")
	var made []string
	for _, n := range s.named() {
		if *n.value != "" {
			continue
		}
		path := filepath.Join(dir, n.name)
		if empty {
			created, err := createSecretFile(path, n.generate())
			if err != nil {
				return s, err
			}
			if created {
				made = append(made, path)
			}
		}
		if *n.value, err = readSecretFile(path); err != nil {
			return s, err
		}
	}
	if len(made) > 0 {
		log.Warn("secrets were created: back these up; without them every key and signing key in the database is lost", "files", made)
	}
	return s, nil
}

// complete names every secret that PostgreSQL needs and lacks.
func (s *secretText) complete() error {
	var missing []string
	for _, n := range s.named() {
		if *n.value == "" {
			missing = append(missing, "TOKENBOOTH_SECRETS_"+strings.ToUpper(n.name)+"_FILE")
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return exitWith(exitFailure, fmt.Errorf("with PostgreSQL the installation's secrets must be configured: %s", strings.Join(missing, ", ")),
		"create each file once with `umask 077; openssl rand -base64 32`, give all replicas the same, and back them up (the pepper is written 1:<base64>)")
}

// createSecretFile writes a new file, readable by its owner only, unless there
// is one. It appears whole or not at all, also to a second process that starts
// at the same time.
func createSecretFile(path, value string) (created bool, err error) {
	if _, err := os.Lstat(path); err == nil {
		return false, nil
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return false, fmt.Errorf("create the directory of secrets: %w", err)
	}
	f, err := os.CreateTemp(dir, ".new-*") // mode 0600
	if err != nil {
		return false, fmt.Errorf("create a secret: %w", err)
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.WriteString(value + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return false, fmt.Errorf("create a secret: %w", err)
	}
	err = os.Link(f.Name(), path)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("create a secret: %w", err)
	}
	return true, syncDirectory(dir)
}

// syncDirectory makes a new name in it survive a power cut.
func syncDirectory(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return errors.Join(d.Sync(), d.Close())
}

func readSecretFile(path string) (string, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("the database holds data, but its secret %s is missing: restore it from the backup; a new one would fit none of the stored keys", path)
	}
	if err != nil {
		return "", fmt.Errorf("read a secret: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("the secret %s can be read by others (mode %04o): run `chmod 600 %s`", path, info.Mode().Perm(), path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read a secret: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// fingerprints identifies secrets without telling anything of them, so that a
// database can say that it was opened with those of another one. (The key-
// encryption key needs none: with a wrong one the signing key does not open.)
func (s *secretText) fingerprints() map[string]string {
	prints := map[string]string{"id_key": fingerprint(s.IDKey)}
	for pepper := range strings.SplitSeq(s.Pepper, ",") {
		version, value, _ := strings.Cut(strings.TrimSpace(pepper), ":")
		prints["pepper."+version] = fingerprint(value)
	}
	return prints
}

func fingerprint(secret string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte("tokenbooth fingerprint"))
	return hex.EncodeToString(mac.Sum(nil)[:8])
}

// checkFingerprints compares the secrets with those under which live secrets are
// stored: the ID key and the peppers in use. One that nothing depends on yet may
// be replaced, so a slip in a new one can be mended.
func checkFingerprints(s secretText, installation workspace.Installation, peppersInUse []int64) error {
	stored, err := installation.Prints()
	if err != nil {
		return err
	}
	if len(peppersInUse) == 0 {
		return nil
	}
	prints := s.fingerprints()
	if prints["id_key"] != stored["id_key"] {
		return errForeignSecret("id_key")
	}
	for _, version := range peppersInUse {
		name := fmt.Sprintf("pepper.%d", version)
		switch prints[name] {
		case "":
			return fmt.Errorf("secrets.pepper lacks version %d, under which secrets are stored: keep it behind the newer ones, separated by a comma", version)
		case stored[name]:
		default:
			return errForeignSecret(fmt.Sprintf("pepper version %d", version))
		}
	}
	return nil
}

func errForeignSecret(name string) error {
	return fmt.Errorf("secrets.%s is not the one that belongs to this database: every key would be refused; configure the right one, or restore it from the backup", name)
}
