"""What the job graph has to know of the words of ``preprocessing.intensity``."""

# Words whose images are not cut off at 0 and 1 but kept as numbers of half precision.
FLOAT16_WORDS = ("z_score_float16",)
