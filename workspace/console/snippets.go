package console

import "strings"

// snippet is how a key is used with some tool.
type snippet struct {
	ID, Name, Hint, Text string
}

// The texts have %URL% and %ID% for the issuer and the key; the secret is always a
// variable, so that they can be kept anywhere. It never gets on a command line, where
// everybody on the machine could see it.
var snippetTexts = []snippet{
	{"curl", "curl", "Set TOKENBOOTH_CLIENT_SECRET to the secret first.",
		`printf 'grant_type=client_credentials&client_id=%s&client_secret=%s' %ID% "$TOKENBOOTH_CLIENT_SECRET" |
  curl -sS --fail-with-body --data @- '%URL%/api/login'`},
	{"github", "GitHub Actions", "Store the secret as the repository secret TOKENBOOTH_CLIENT_SECRET.",
		`- name: Get a token
  id: token
  env:
    TOKENBOOTH_CLIENT_SECRET: ${{ secrets.TOKENBOOTH_CLIENT_SECRET }}
  run: |
    token=$(printf 'grant_type=client_credentials&client_id=%s&client_secret=%s' %ID% "$TOKENBOOTH_CLIENT_SECRET" |
      curl -sS --fail-with-body --data @- '%URL%/api/login' | jq -er .access_token)
    echo "::add-mask::$token"
    echo "token=$token" >> "$GITHUB_OUTPUT"
# later steps use ${{ steps.token.outputs.token }}`},
	{"gitlab", "GitLab CI", "Store the secret as the masked CI/CD variable TOKENBOOTH_CLIENT_SECRET. The job's image needs curl and jq.",
		`deploy:
  script:
    - |
      TOKEN=$(printf 'grant_type=client_credentials&client_id=%s&client_secret=%s' %ID% "$TOKENBOOTH_CLIENT_SECRET" |
        curl -sS --fail-with-body --data @- '%URL%/api/login' | jq -er .access_token)
      curl -sS --fail-with-body -H "Authorization: Bearer $TOKEN" "$YOUR_SERVICE_URL"`},
	{"terraform", "Terraform", "Set TOKENBOOTH_CLIENT_SECRET to the secret first. With Terraform 1.10 or later nothing of it gets into the state; the token has to outlive the run.",
		`# in a .tf file
variable "token" {
  type      = string
  ephemeral = true
}

# in a shell
export TOKENBOOTH_URL='%URL%' TOKENBOOTH_CLIENT_ID=%ID%
tokenbooth exec --var TF_VAR_token -- terraform apply`},
	{"cli", "CLI", "Set TOKENBOOTH_CLIENT_SECRET to the secret first, or TOKENBOOTH_CLIENT_SECRET_FILE to a file that holds it.",
		`export TOKENBOOTH_URL='%URL%' TOKENBOOTH_CLIENT_ID=%ID%
tokenbooth token get`},
}

// snippets are the ways of using a key.
func snippets(issuer, id string) []snippet {
	fill := strings.NewReplacer("%URL%", issuer, "%ID%", id)
	var filled []snippet
	for _, s := range snippetTexts {
		s.Text = fill.Replace(s.Text)
		filled = append(filled, s)
	}
	return filled
}
