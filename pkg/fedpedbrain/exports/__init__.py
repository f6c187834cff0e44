"""The study's results for other programs: CSV, TensorBoard, MLflow, and model folders for the Hugging Face hub."""
