package console

// The outcomes of exchanges that are told apart everywhere; others are reasons for a
// refusal.
const (
	outcomeIssued = "issued"
	outcomeQuota  = "quota_exceeded"
)

// outcomeTexts are the outcomes of exchanges as people read them.
var outcomeTexts = map[string]string{
	outcomeIssued:         "Issued",
	outcomeQuota:          "Over quota",
	"wrong_credentials":   "Wrong secret",
	"malformed_secret":    "Damaged secret",
	"malformed_request":   "Malformed request",
	"expired":             "Key expired",
	"revoked":             "Key revoked",
	"secret_replaced":     "Secret replaced",
	"disabled":            "Owner disabled",
	"owner_removed":       "Owner removed",
	"workspace_suspended": "Workspace suspended",
	"workspace_deleted":   "Workspace deleted",
	"address":             "Address not allowed",
	"policy":              "Against policy",
	"idle":                "Unused for too long",
	"uses_exhausted":      "Uses exhausted",
	"scope":               "Permission not held",
	"audience":            "Audience not allowed",
	"too_many_failures":   "Too many failures",
	"client_gone":         "Client went away",
	"unavailable":         "Service unavailable",
	"error":               "Internal error",
}

// outcomeText says an outcome of an exchange in words.
func outcomeText(outcome string) string {
	if text, known := outcomeTexts[outcome]; known {
		return text
	}
	return outcome
}
