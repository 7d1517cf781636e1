"""From archives to manifests and shots."""
