{{/* Refuse values that would make an installation that does not start, with what to do. */}}
{{- define "tokenbooth.check" -}}
{{- include "tokenbooth.checkSecrets" . -}}
{{- include "tokenbooth.checkConfig" . -}}
{{- if .Values.sqlite.enabled -}}
{{- include "tokenbooth.checkSQLite" . -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- fail "\n\nhttpRoute.parentRefs is empty: name the Gateway that serves the issuer's host, such as\n\n  --set httpRoute.parentRefs[0].name=gateway --set httpRoute.parentRefs[0].namespace=gateway-system\n" -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) -}}
{{- fail "\n\nautoscaling.minReplicas is greater than autoscaling.maxReplicas: raise the latter.\n" -}}
{{- end -}}
{{- end -}}

{{- define "tokenbooth.checkSecrets" -}}
{{- $create := printf "kubectl create secret generic --namespace %s" .Release.Namespace -}}
{{- if not (or .Values.secrets.existingSecret .Values.sqlite.enabled) -}}
{{- $random := "openssl rand -base64 32" -}}
{{- $files := printf "--from-file=%s=<(printf '1:%%s' \"$(%s)\") --from-file=%s=<(%s) --from-file=%s=<(%s)" .Values.secrets.keys.pepper $random .Values.secrets.keys.idKey $random .Values.secrets.keys.keyEncryptionKey $random -}}
{{- fail (printf "\n\nsecrets.existingSecret is empty: name the Secret with the installation's pepper, ID key and key-encryption key. Make it once, in bash or zsh, and back it up:\n\n  %s tokenbooth-secrets %s\n\nthen add --set secrets.existingSecret=tokenbooth-secrets\n" $create $files) -}}
{{- end -}}
{{- if not (or .Values.database.existingSecret .Values.sqlite.enabled) -}}
{{- fail (printf "\n\ndatabase.existingSecret is empty: name the Secret with the URL of PostgreSQL. This makes it from what you type (postgres://USER:PASSWORD@HOST:5432/DATABASE, Enter, Ctrl-D):\n\n  %s tokenbooth-database --from-file=%s=/dev/stdin\n\nthen add --set database.existingSecret=tokenbooth-database. To try it without PostgreSQL, on one replica with a volume: --set sqlite.enabled=true\n" $create .Values.database.key) -}}
{{- end -}}
{{- end -}}

{{- define "tokenbooth.checkConfig" -}}
{{- $config := .Values.config -}}
{{- if not $config.issuer -}}
{{- fail "\n\nconfig.issuer is empty: give the public https URL of this service, as clients and verifiers see it:\n\n  --set config.issuer=https://login.example.com\n" -}}
{{- end -}}
{{- range .Files.Get "files/secret-settings.yaml" | fromYamlArray -}}
{{- $section := $config -}}
{{- range initial (splitList "." .) -}}
{{- $section = get $section . | default dict -}}
{{- end -}}
{{- if hasKey $section (last (splitList "." .)) -}}
{{- $instead := printf "name its Secret in secretSettings, such as {%s: {existingSecret: NAME, key: KEY}}" . -}}
{{- if has (first (splitList "." .)) (list "database" "redis" "secrets") -}}
{{- $instead = printf "name its Secret in %s.existingSecret" (first (splitList "." .)) -}}
{{- end -}}
{{- fail (printf "\n\nconfig.%s would be in a ConfigMap, and it is a secret: remove it and %s.\n" . $instead) -}}
{{- end -}}
{{- end -}}
{{- range list "listen" "data" -}}
{{- if hasKey $config . -}}
{{- fail (printf "\n\nconfig.%s is set by the chart, since ports and volumes go by it: remove it.\n" .) -}}
{{- end -}}
{{- end -}}
{{- if hasKey ($config.operations | default dict) "listen" -}}
{{- fail "\n\nconfig.operations.listen is set by the chart, since probes go by it: remove it.\n" -}}
{{- end -}}
{{- if hasKey ($config.database | default dict) "migrate" -}}
{{- fail "\n\nconfig.database.migrate is set by the chart: remove it, and say by migrations.mode (auto, job or off) who migrates.\n" -}}
{{- end -}}
{{- end -}}

{{- define "tokenbooth.checkSQLite" -}}
{{- range list "database" "redis" -}}
{{- if (get $.Values .).existingSecret -}}
{{- fail (printf "\n\nsqlite.enabled and %s.existingSecret are both set: SQLite is one server on its own; unset one of them.\n" .) -}}
{{- end -}}
{{- end -}}
{{- if .Values.autoscaling.enabled -}}
{{- fail "\n\nsqlite.enabled and autoscaling.enabled are both set: SQLite serves one replica; use PostgreSQL for more.\n" -}}
{{- end -}}
{{- if ne .Values.migrations.mode "auto" -}}
{{- fail (printf "\n\nmigrations.mode is %s and sqlite.enabled is set: with SQLite the server migrates when it starts; set migrations.mode to auto.\n" .Values.migrations.mode) -}}
{{- end -}}
{{- end -}}
