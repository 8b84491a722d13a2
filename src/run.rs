//! One short function a command: the pipeline.
