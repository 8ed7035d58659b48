package webhook

import (
	"encoding/json"
	"fmt"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// The types of events.
const (
	KeyCreated  = "key.created"
	KeyRotated  = "key.rotated"
	KeyRevoked  = "key.revoked"
	KeyExpiring = "key.expiring"
	KeyDeleted  = "key.deleted"
)

// Event is one thing that happened to a key, or is about to.
type Event struct {
	Type        string
	At          workspace.Time
	WorkspaceID workspace.ID
	Workspace   string // its slug
	KeyID       keys.ID
	KeyName     string
	OwnerID     string         // the service account or user that the key speaks for
	Actor       string         // who did it, such as user:usr_…; empty: nobody, for it is the clock
	ExpiresAt   workspace.Time // zero: never
	Reason      string         // why it was revoked
	Days        int            // of key.expiring: before which of 14, 7 and 1 days
}

// body is what the receiver reads.
type body struct {
	ID        string         `json:"id"`
	Type      string         `json:"type"`
	Timestamp workspace.Time `json:"timestamp"`
	Data      data           `json:"data"`
}

// data has every field in every event; what does not apply is null.
type data struct {
	WorkspaceID workspace.ID   `json:"workspace_id"`
	Workspace   string         `json:"workspace"`
	ClientID    keys.ID        `json:"client_id"`
	Name        string         `json:"name"`
	OwnerID     string         `json:"owner_id"`
	Actor       *string        `json:"actor"`
	ExpiresAt   workspace.Time `json:"expires_at"`
	Reason      *string        `json:"reason"`
	Days        *int           `json:"days"`
}

// payload is the event as it is sent, the same at every attempt.
func (e Event) payload(id string) (string, error) {
	text, err := json.Marshal(body{ID: id, Type: e.Type, Timestamp: e.At, Data: data{
		WorkspaceID: e.WorkspaceID, Workspace: e.Workspace, ClientID: e.KeyID, Name: e.KeyName, OwnerID: e.OwnerID,
		Actor: orNull(e.Actor), ExpiresAt: e.ExpiresAt, Reason: orNull(e.Reason), Days: orNull(e.Days),
	}})
	if err != nil {
		return "", fmt.Errorf("write the event %s: %w", e.Type, err)
	}
	return string(text), nil
}

// orNull is nil for the zero value.
func orNull[T comparable](v T) *T {
	if v == *new(T) {
		return nil
	}
	return &v
}
