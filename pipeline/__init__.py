"""The main job as Prefect flows: one task is one library call, paths in, paths out."""
