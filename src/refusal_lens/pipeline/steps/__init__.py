"""The steps of an audit, one file each; `pipeline.registry` lists them in order."""
