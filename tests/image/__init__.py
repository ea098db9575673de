"""The container image: built without a registry, started as the manifests start it. `make image-test`; some minutes."""
