"""Everything that is asked of Kubernetes besides what kopf watches: objects, status, Secrets, Events, records."""
