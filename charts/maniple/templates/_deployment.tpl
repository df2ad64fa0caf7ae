{{- /* The Deployment of a component. Takes (dict "root" $ "component" name "env" yaml "ports" yaml "podLabels" extra "offline" flag
"graceSeconds" number "lingerSeconds" number "volumes" yaml "mounts" yaml). An offline component has no access to the API server. */}}
{{- define "maniple.deployment" -}}
{{- $root := .root }}
{{- $values := index $root.Values .component }}
{{- $name := printf "%s-%s" (include "maniple.fullname" $root) .component }}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "maniple.metadata" (dict "root" $root "name" $name "component" .component "namespace" $root.Release.Namespace) | nindent 2 }}
spec:
  replicas: {{ $values.replicas }}
  revisionHistoryLimit: 3
  selector:
    matchLabels:
      {{- include "maniple.selector" (list $root .component) | nindent 6 }}
  strategy:
    type: RollingUpdate
    rollingUpdate:
      maxSurge: 1
      maxUnavailable: 0
  template:
    metadata:
      labels:
        {{- include "maniple.labels" (list $root .component) | nindent 8 }}
        {{- with merge (dict) $values.podLabels (default dict .podLabels) }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      annotations:
        kubectl.kubernetes.io/default-container: {{ .component }}
        {{- with merge (dict) $values.podAnnotations $root.Values.additionalAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      {{- if .offline }}
      automountServiceAccountToken: false
      {{- else }}
      serviceAccountName: {{ include "maniple.serviceAccountName" (list $root .component) }}
      automountServiceAccountToken: true
      {{- end }}
      enableServiceLinks: false
      # Longer than the stages in which the process stops by itself.
      terminationGracePeriodSeconds: {{ default 40 .graceSeconds }}
      {{- with $root.Values.imagePullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      {{- with $values.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $values.affinity }}
      affinity:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- if $values.topologySpread }}
      topologySpreadConstraints:
        {{- range $values.topologySpread }}
        - {{- toYaml . | nindent 10 }}
          labelSelector:
            matchLabels:
              {{- include "maniple.selector" (list $root $.component) | nindent 14 }}
        {{- end }}
      {{- end }}
      securityContext:
        runAsNonRoot: true
        {{- with $root.Values.runAsUser }}
        runAsUser: {{ . | int64 }}
        runAsGroup: {{ . | int64 }}
        {{- end }}
        seccompProfile:
          type: RuntimeDefault
      containers:
        - name: {{ .component }}
          image: {{ include "maniple.image" $root }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          command: [/{{ .component }}]
          env:
            {{- if not .offline }}
            - name: MANIPLE_INSTANCE
              valueFrom:
                fieldRef:
                  fieldPath: metadata.name
            - name: MANIPLE_LEASE_NAMESPACE
              value: {{ $root.Release.Namespace }}
            - name: MANIPLE_LEASE_NAME
              value: {{ $name }}
            {{- with $root.Values.watchNamespace }}
            - name: MANIPLE_NAMESPACE
              value: {{ . }}
            {{- end }}
            {{- end }}
            - name: MANIPLE_ADMIN_ADDRESS
              value: {{ printf "%s:9990" $root.Values.listenAddress | quote }}
            - name: MANIPLE_LOG
              value: {{ $root.Values.log.level | quote }}
            - name: MANIPLE_LOG_FORMAT
              value: {{ $root.Values.log.format }}
            {{- .env | nindent 12 }}
            {{- with $values.extraEnv }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          ports:
            - name: admin
              containerPort: 9990
            {{- with .ports }}
            {{- . | nindent 12 }}
            {{- end }}
          livenessProbe:
            httpGet:
              path: /live
              port: admin
            periodSeconds: 10
            timeoutSeconds: 10
            failureThreshold: 6
          readinessProbe:
            httpGet:
              path: /ready
              port: admin
            periodSeconds: 2
            timeoutSeconds: 2
            failureThreshold: 2
          {{- with .lingerSeconds }}
          # Who follows the name of this pod's Service has found the new pods when this one stops.
          lifecycle:
            preStop:
              sleep:
                seconds: {{ . }}
          {{- end }}
          {{- with $values.resources }}
          resources:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities:
              drop: [ALL]
          {{- with .mounts }}
          volumeMounts:
            {{- . | nindent 12 }}
          {{- end }}
      {{- with .volumes }}
      volumes:
        {{- . | nindent 8 }}
      {{- end }}
{{- end }}
