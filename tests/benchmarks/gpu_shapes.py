"""What ``gpu.py`` times a training step of each network with; every network has a row in both tables."""

from training_steps import StepShape

# Each network at the size that it was published with, or that a study of ours has.
SHAPES = {
    # FL-PedBrain (Lee et al., 2024).
    "i3d_unet": StepShape("i3d_unet", 4, (64, 256, 256), {"width": 1.0, "dropout": 0.0}, segmentation_loss="reference"),
    # The default study.
    "unet": StepShape("unet", 2, (24, 48, 48)),
    # NVIDIA FLARE's example of prostate segmentation: 16 to 256 features, four patches of a case.
    "residual_unet": StepShape("residual_unet", 4, (32, 224, 224), num_classes=0, segmentation_loss="dice"),
    # Slices with their neighbours, for the glioma cohort.
    "residual_unet, slices": StepShape(
        "residual_unet",
        16,
        (1, 128, 128),
        {
            "features": [8, 16, 32, 64, 128],
            "strides": [[1, 1, 1], *[[1, 2, 2]] * 4],
            "kernels": [[1, 3, 3]] * 5,
            "neighbours": 1,
        },
        num_classes=0,
        segmentation_loss="batch_dice_cross_entropy",
    ),
}
_TWO_STAGES = {"strides": [[1, 2, 2], [2, 2, 2]]}
# The same, as small as they are still computed in the same way.
SHORT_SHAPES = {
    "i3d_unet": StepShape(
        "i3d_unet", 2, (10, 34, 34), {"width": 0.0625, "dropout": 0.0}, segmentation_loss="reference"
    ),
    "unet": StepShape("unet", 2, (4, 16, 16), {"channels": [4, 4], **_TWO_STAGES}),
    "residual_unet": StepShape(
        "residual_unet",
        2,
        (8, 16, 16),
        {"features": [4, 4], "kernels": [[1, 3, 3], [3, 3, 3]], "blocks": [1, 1], **_TWO_STAGES},
        num_classes=0,
        segmentation_loss="dice",
    ),
    "residual_unet, slices": StepShape(
        "residual_unet",
        4,
        (1, 16, 16),
        {
            "features": [4, 4],
            "strides": [[1, 1, 1], [1, 2, 2]],
            "kernels": [[1, 3, 3]] * 2,
            "blocks": [1, 1],
            "neighbours": 1,
        },
        num_classes=0,
        segmentation_loss="batch_dice_cross_entropy",
    ),
}
# Of which a compiler makes little code.
SMALLEST_SHAPE = StepShape("unet", 1, (2, 8, 8), {"channels": [4], "strides": [[1, 1, 1]]})
