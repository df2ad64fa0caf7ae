{{- /* Both ends of the streams for slots show a certificate. Each component has a Secret with ca.crt, tls.crt and tls.key. */}}

{{- /* Name of that Secret. Takes (list $ "component"). */}}
{{- define "maniple.slots.secret" -}}
{{- $root := index . 0 }}
{{- $given := index $root.Values.front.tls (printf "%sSecret" (index . 1)) }}
{{- default (printf "%s-%s-slots" (include "maniple.fullname" $root) (index . 1)) $given }}
{{- end }}

{{- define "maniple.slots.mounts" -}}
{{- if .Values.front.enabled -}}
- name: tls
  mountPath: /tls
  readOnly: true
{{- end }}
{{- end }}

{{- /* Takes (list $ "component"). */}}
{{- define "maniple.slots.volumes" -}}
{{- if (index . 0).Values.front.enabled -}}
- name: tls
  secret:
    secretName: {{ include "maniple.slots.secret" . }}
{{- end }}
{{- end }}
