"""The frozen CLIP: names, shapes, weights and towers."""
