package oauth

// help is the one table of errors: the pages, the titles of problems, the command
// line and the documentation are made from it. Its reader looks at a CI log in the
// middle of the night: each row says what happened and what to do about it, and
// tells nothing that the error itself may not tell.
var help = []Help{
	{
		TopicRequestMalformed, "Malformed request", 400,
		"The request cannot be understood as it was sent: a parameter is missing, repeated, of the wrong kind or in the URL, the body is not well-formed, or there is more than one credential. No credentials were checked.",
		"Read the description, which names what is wrong. Token requests are POST with a form in the body, with grant_type=client_credentials, client_id and client_secret; curl sends such a form with --data-urlencode.",
	},
	{
		TopicGrantTypeUnsupported, "Unsupported grant type", 400,
		"The token endpoint was asked for a grant other than client_credentials. There are no passwords, authorization codes or refresh tokens here.",
		"Send grant_type=client_credentials, in lower case. When a token is about to expire, ask for another one in the same way.",
	},
	{
		TopicScopeNotGranted, "Scope not granted", 400,
		"The parameter scope names something that the API key does not hold for this audience, or is malformed: scopes are separated by exactly one space.",
		"Ask for no more than the description lists, or leave scope out to get all that the key holds. If the job needs more, have a workspace manager widen the key or the role of its service account.",
	},
	{
		TopicAudienceNotGranted, "Audience not granted", 400,
		"The parameter resource or audience names a service that the API key may not be used for, or is not an absolute URI without a fragment.",
		"Use an audience that the description lists, spelled to the letter, or leave the parameter out to get the key's first one. Have a workspace manager add the audience to the key if it belongs there.",
	},
	{
		TopicCredentialsMissing, "Credentials missing", 401,
		"The request carries no credentials, only half of them, or sends them in a way that cannot be read. In CI the usual cause is a variable that is empty: it is not set for this branch, this environment or this fork.",
		"For a token, send client_id and client_secret in the body, or both as HTTP Basic. Elsewhere, send Authorization: Bearer and the token. Check in the job that the variable is not empty, without printing it.",
	},
	{
		TopicCredentialsNotRecognised, "API token not recognised", 401,
		"There is no API key with this ID, or the secret is not its own. Which of the two is never told, so that nobody can search for keys.",
		"Check that client_id and client_secret come from the same key and from this installation, and were copied whole. A secret is shown only once: if it is lost, rotate the key or create a new one.",
	},
	{
		TopicSecretMalformed, "Malformed secret", 401,
		"The client_secret cannot be one of ours: its length or its checksum is wrong. It was cut off or changed on the way, for instance by a copy that missed the end, by quotes, or by a variable that a shell expanded. It was not looked up.",
		"Copy the secret again, whole and without quotes or spaces. The description says how it differs; the checksum finds any mistyped character.",
	},
	{
		TopicKeyExpired, "API key expired", 401,
		"The secret is right, but the API key passed its expiry.",
		"Create a new API key for the same service account, put its ID and its secret where the job reads them, and run the job again. To be warned weeks ahead, let the job check key_expires_at in the answer of each login.",
	},
	{
		TopicKeyRevoked, "API key revoked", 401,
		"The secret is right, but the API key was revoked, as it also is when its service account or its workspace is deleted. Tokens that it obtained are refused as well.",
		"Create a new API key under an active service account and put it where the job reads the old one. Look in the audit log for who revoked the key and why: if it had leaked, remove the secret wherever it was found.",
	},
	{
		TopicSecretReplaced, "Secret replaced", 401,
		"The API key works, but it was rotated and this older secret of it has ended.",
		"Use the newer secret: update every place that still holds the old one. If nobody has kept the newer secret, rotate the key once more.",
	},
	{
		TopicOwnerRemoved, "Owner of the key removed", 401,
		"The secret is right, but the service account of the API key was deleted; or it is a personal key, and its owner is no longer a member of the workspace.",
		"Create an API key of another service account. For automation do not use personal keys: they end when the person leaves.",
	},
	{
		TopicOwnerDisabled, "Service account is disabled", 401,
		"The secret is right, but the service account of the API key is disabled; or it is a personal key, and its owner is disabled.",
		"Have a workspace manager enable the service account again, or use a key of another one. A person who owns a personal key is enabled by an organization admin.",
	},
	{
		TopicWorkspaceSuspended, "Workspace is suspended", 401,
		"The secret is right, but the whole workspace is suspended. All of its keys and tokens are refused.",
		"Ask an organization admin why the workspace is suspended and whether it can be resumed. A new key in the same workspace does not help.",
	},
	{
		TopicWorkspaceDeleted, "Workspace was deleted", 401,
		"The secret is right, but the whole workspace was deleted, and all of its keys and tokens were revoked with it.",
		"Create an API key in a workspace that exists. If the workspace should still be there, ask an organization admin: the audit log says who deleted it.",
	},
	{
		TopicAddressNotAllowed, "Address not allowed", 401,
		"The secret is right, but the API key may be used from certain networks only, and the request came from another address: the one in the description.",
		"Run the job inside an allowed network, or have a workspace manager add that address to the networks of the key. If it is not the job's own address but a proxy's, the operator has to list that proxy in http.trusted_proxies.",
	},
	{
		TopicBlockedByPolicy, "Blocked by policy", 401,
		"The secret is right, but the API key is not what the policy of the organization or workspace allows, which may have changed since the key was made: it lives too long, never expires, may be used from everywhere, or API keys are disabled altogether. The description says which.",
		"Do what the description says: have a workspace manager set the expires_at or allowed_cidrs of the key, or rotate it and then set them; the ID stays, and it works again at once. If API keys are disabled, ask an organization admin.",
	},
	{
		TopicKeyIdle, "API key not used for too long", 401,
		"The secret is right, but the API key was not used for longer than policy allows, and so it disabled itself.",
		"If the job still needs it, have a workspace manager rotate the key and put the new secret where the job reads it: the ID stays. If not, revoke it.",
	},
	{
		TopicUsesExhausted, "Uses exhausted", 401,
		"The secret is right, but the API key was made for a certain number of uses, and all of them are used up.",
		"Create a new API key, or have a workspace manager raise the max_uses of this one. A job that asks for a token at each step uses one up each time: keep the token.",
	},
	{
		TopicTokenInvalid, "Token is not valid", 401,
		"The access token expired, was revoked, is meant for another service, or was cut off or changed on the way. The description says which.",
		"Get a new token from the token endpoint and send it whole. Tokens last minutes: a long job asks for a new one before each one expires. If the new token is refused too, check that it was asked for with the audience of this service.",
	},
	{
		TopicTokenNotYours, "Token of another client", 400,
		"The token that was to be revoked was issued to another API key. It was not revoked.",
		"Send the credentials of the key that the token was issued to. A key of the same workspace that holds tokens:revoke may revoke the tokens of others. A leaked token of a key that nobody has is best ended with its key.",
	},
	{
		TopicTokenTypeUnsupported, "Not an access token", 400,
		"What was sent to be revoked is the secret of an API key. Only access tokens are revoked here: the key and its secret go on to work.",
		"Revoke the key itself: tokenbooth keys revoke ID, or POST /api/v1/workspaces/WORKSPACE/keys/ID/revoke. That ends its tokens too. To go on with the same key, rotate it with revoke_tokens.",
	},
	{
		TopicInsufficientPermissions, "Insufficient permissions", 403,
		"The credential is good, but its scope does not include this action, or would be exceeded by what the request grants: you can only grant what you hold.",
		"Have a workspace manager grant the missing permission to the key or its service account, then get a new token: tokens that exist keep their scope. If the key holds the permission already, ask for it in the parameter scope, or leave that out.",
	},
	{
		TopicTooManyFailures, "Too many failed attempts", 429,
		"Too many requests with wrong credentials came from this address, perhaps from another job behind the same one. Right credentials are answered at any time, so these were wrong as well.",
		"Do not retry: compare client_id and client_secret with those of the key first. The budget of this address refills by itself; Retry-After says in how many seconds.",
	},
	{
		TopicQuotaExceeded, "Quota exceeded", 429,
		"The credentials are right, but they are used more often than the quota allows; or as many tokens of the workspace are revoked one by one as can be at a time.",
		"Wait as many seconds as Retry-After says and try again. Keep a token until it is about to expire instead of getting one for each request; if the quota is still too small, ask an organization admin to raise it. Instead of many single tokens, revoke all of their key: rotate it with revoke_tokens, or revoke it.",
	},
	{
		TopicTemporarilyUnavailable, "Temporarily unavailable", 503,
		"Something that the answer depends on is away, such as the database. Nothing is wrong with your credentials, and nothing about them was decided.",
		"Try again after as many seconds as Retry-After says, a few times. If it lasts, tell the operator, who finds the cause at /readyz and in the log.",
	},
	{
		TopicServerError, "Server error", 500,
		"Something went wrong in the service that it has no better word for. Its cause is in the log of the service, not in the answer.",
		"Try again once. If it happens again, send the operator the Request-Id of the answer: the log has the cause under that ID.",
	},
	{
		TopicParameterUnknown, "Unknown parameter", 400,
		"The URL has a query parameter that this address does not know, or one with a value that it cannot take. It is refused rather than ignored, since a filter that is ignored would list too much.",
		"Check the spelling against the description of the API. Take out parameters that belong to another address.",
	},
	{
		TopicCursorInvalid, "Cursor is not valid", 400,
		"The cursor is not one that this service gave out for this very list: it was changed, made up, or taken from a list with another filter or order.",
		"Begin again without a cursor, and then send next_cursor of each answer back as it is, with the same filter and order.",
	},
	{
		TopicValidationFailed, "Validation failed", 422,
		"The body is well-formed, but a value in it is missing or not acceptable. Nothing was changed.",
		"Look at the member errors of the answer: each entry has a pointer to the value and says what is accepted there. Correct them all and send the request again.",
	},
	{
		TopicNotFound, "Not found", 404,
		"There is nothing at this address, or it is in a workspace that the credential does not belong to. The two are answered alike, so that nobody can search through other workspaces.",
		"Check the path and every ID in it, without a slash at the end. A key sees its own workspace only: for another workspace that you are in, get a personal key there first (POST /api/v1/users/me/keys, or tokenbooth keys create NAME --personal --workspace SLUG).",
	},
	{
		TopicMethodNotAllowed, "Method not allowed", 405,
		"The address exists, but it does not take this method. A redirect on the way, such as from http to https, may have turned a POST into a GET.",
		"Use a method that the header Allow of the answer lists, and call the https address directly.",
	},
	{
		TopicConflict, "Conflict", 409,
		"The request does not agree with what exists: a name is taken, an object is in a state that does not permit this, or a request with the same Idempotency-Key is still being worked on. This request has changed nothing.",
		"Read the object as it is now and decide again: use another name, or leave out what is done already. If the same request is still running, wait for a moment and repeat it with the same Idempotency-Key.",
	},
	{
		TopicLastOwner, "Last owner of the workspace", 409,
		"The change would leave the workspace without an owner, so that nobody could manage its members any more.",
		"Make another member an owner first, then repeat the change.",
	},
	{
		TopicKeyNotLive, "API key is not live", 409,
		"The API key has expired or was revoked, so it cannot be changed or rotated. Neither can be undone.",
		"Create a new API key for the same service account.",
	},
	{
		TopicPreconditionFailed, "Precondition failed", 412,
		"The object was changed by somebody else after you read it: the ETag in If-Match is not its present one. Nothing was changed.",
		"Read the object again, apply your change to what you find, and send it with the new ETag.",
	},
	{
		TopicBodyTooLarge, "Body too large", 413,
		"The body of the request is larger than this address takes. The description names the limit.",
		"Send only the parameters that are needed. If it is a token request, check that the variables hold the credentials and not, for instance, a whole file.",
	},
	{
		TopicMediaTypeUnsupported, "Unsupported media type", 415,
		"The body is compressed, or its Content-Type is not one that this address reads.",
		"Send the body without Content-Encoding. Token requests are application/x-www-form-urlencoded or application/json, everything else is application/json.",
	},
	{
		TopicIdempotencyKeyInvalid, "Idempotency key is not valid", 400,
		"The header Idempotency-Key is empty, too long, repeated, or has characters that are not allowed.",
		"Send one Idempotency-Key for each act that you want to happen once, such as a new random UUID, and the same one again only when you repeat that request.",
	},
	{
		TopicIdempotencyKeyReused, "Idempotency key was used for another request", 422,
		"This Idempotency-Key came before with another method, address or body. To answer with the result of that other request would be wrong, so nothing was done.",
		"Make a new key for each new request. In a script, do not derive it from what stays the same between runs, such as the name of the job.",
	},
	{
		TopicPolicyViolated, "Not allowed by policy", 422,
		"The API-key policy of the organization or of the workspace does not allow a key like the one that was asked for. The description says what it allows.",
		"Ask for what the description names: an earlier expires_at, allowed_cidrs, a shorter grace period, other scopes. If the policy itself should be another, ask an organization admin.",
	},
	{
		TopicLimitReached, "Limit reached", 409,
		"The workspace has as many live API keys or service accounts as its quota allows.",
		"Revoke keys or delete service accounts that are not used any more: lists show when each was last used. If all are needed, ask an organization admin to raise the quota.",
	},
	{
		TopicGatewayNotUnderstood, "Gateway not understood", 403,
		"A gateway has asked whether a request may pass, and its question cannot be relied on: it does not come from a trusted network, does not say what it should about the request, or demands what cannot be read. No credentials were checked.",
		"This is for the operator of the gateway: do what the description says, and compare its configuration with the shipped one. Calls from elsewhere belong to the service itself, through the gateway.",
	},
}
