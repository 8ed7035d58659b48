{{/* The name of the chart's objects, at most 63 characters with the longest suffix, -migrate-12345678. */}}
{{- define "tokenbooth.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- $name = .Values.fullnameOverride -}}
{{- else if not (contains $name .Release.Name) -}}
{{- $name = printf "%s-%s" .Release.Name $name -}}
{{- else -}}
{{- $name = .Release.Name -}}
{{- end -}}
{{- $name | trunc 46 | trimSuffix "-" -}}
{{- end -}}

{{/* What selects the servers. It must never change: a Deployment's selector cannot. */}}
{{- define "tokenbooth.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: server
{{- end -}}

{{- define "tokenbooth.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: tokenbooth
{{ include "tokenbooth.selector" . }}
{{- end -}}

{{- define "tokenbooth.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{- define "tokenbooth.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{ default (include "tokenbooth.fullname" .) .Values.serviceAccount.name }}
{{- else -}}
{{ default "default" .Values.serviceAccount.name }}
{{- end -}}
{{- end -}}

{{/* The configuration file: the values of config, and what the chart decides. */}}
{{- define "tokenbooth.config" -}}
{{- $own := dict "listen" ":8080" "operations" (dict "listen" ":9090") -}}
{{- if .Values.sqlite.enabled -}}
{{- $_ := set $own "data" "/data" -}}
{{- else if ne .Values.migrations.mode "auto" -}}
{{- $_ := set $own "database" (dict "migrate" false) -}}
{{- end -}}
{{- mergeOverwrite (deepCopy .Values.config) $own | toYaml -}}
{{- end -}}

{{/* The secret settings that come from Secrets, as a YAML map from the setting to its Secret and key. */}}
{{- define "tokenbooth.secrets" -}}
{{- $all := dict -}}
{{- with .Values.secrets -}}
{{- if .existingSecret -}}
{{- $_ := set $all "secrets.pepper" (dict "existingSecret" .existingSecret "key" .keys.pepper) -}}
{{- $_ := set $all "secrets.id_key" (dict "existingSecret" .existingSecret "key" .keys.idKey) -}}
{{- $_ := set $all "secrets.key_encryption_key" (dict "existingSecret" .existingSecret "key" .keys.keyEncryptionKey) -}}
{{- end -}}
{{- end -}}
{{- if .Values.database.existingSecret -}}
{{- $_ := set $all "database.url" .Values.database -}}
{{- end -}}
{{- if .Values.redis.existingSecret -}}
{{- $_ := set $all "redis.url" .Values.redis -}}
{{- end -}}
{{- range $setting, $secret := .Values.secretSettings -}}
{{- $_ := set $all $setting $secret -}}
{{- end -}}
{{- $all | toYaml -}}
{{- end -}}

{{/* A setting's name in the environment, and the name of its file. */}}
{{- define "tokenbooth.variable" -}}
TOKENBOOTH_{{ . | replace "." "_" | upper }}
{{- end -}}
{{- define "tokenbooth.file" -}}
{{ . | replace "." "_" }}
{{- end -}}

{{/* The variables that say where the files of secrets are. */}}
{{- define "tokenbooth.secretEnv" -}}
{{- range $setting, $secret := . }}
- name: {{ include "tokenbooth.variable" $setting }}_FILE
  value: /run/secrets/tokenbooth/{{ include "tokenbooth.file" $setting }}
{{- end }}
{{- end -}}

{{/* The volume with these files. Its mode lets nobody but the process's own group read them. */}}
{{- define "tokenbooth.secretVolume" -}}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      {{- range $setting, $secret := . }}
      - secret:
          name: {{ $secret.existingSecret }}
          items:
            - key: {{ $secret.key }}
              path: {{ include "tokenbooth.file" $setting }}
      {{- end }}
{{- end -}}

{{- define "tokenbooth.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "tokenbooth.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* A Go duration in whole seconds, rounded up. */}}
{{- define "tokenbooth.seconds" -}}
{{- $units := dict "h" 3600.0 "m" 60.0 "s" 1.0 "ms" 0.001 -}}
{{- $total := 0.0 -}}
{{- range regexFindAll "[0-9.]+(h|ms|m|s)" . -1 -}}
{{- $number := regexFind "^[0-9.]+" . | float64 -}}
{{- $total = addf $total (mulf $number (get $units (regexFind "[a-z]+$" .))) -}}
{{- end -}}
{{- ceil $total | int -}}
{{- end -}}

{{/* How long a pod may take to end: the delay, the running requests, and a quarter of a minute to write what is left. */}}
{{- define "tokenbooth.gracePeriod" -}}
{{- $http := .Values.config.http | default dict -}}
{{- $delay := include "tokenbooth.seconds" ($http.shutdown_delay | default "5s") | int -}}
{{- $drain := include "tokenbooth.seconds" ($http.drain_timeout | default "20s") | int -}}
{{- add $delay $drain 15 -}}
{{- end -}}

{{/* The issuer's host without its port, and its path without a slash at the end. */}}
{{- define "tokenbooth.host" -}}
{{- regexReplaceAll ":[0-9]+$" (urlParse .Values.config.issuer).host "" -}}
{{- end -}}
{{- define "tokenbooth.path" -}}
{{- (urlParse .Values.config.issuer).path | trimSuffix "/" -}}
{{- end -}}

{{/* The prefixes of paths that the server answers, a YAML list: RFC 8414 puts its metadata before the issuer's path. */}}
{{- define "tokenbooth.paths" -}}
{{- $path := include "tokenbooth.path" . -}}
{{- if $path -}}
{{- list $path (printf "/.well-known/oauth-authorization-server%s" $path) | toYaml -}}
{{- else -}}
{{- list "/" | toYaml -}}
{{- end -}}
{{- end -}}
