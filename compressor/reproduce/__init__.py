"""Training recipes (`zoo/recipes`, TOML): a paper's system as it says it, set beside its figures.

A *training recipe* says how a network is made: features, augmentation, loss, schedule, and the
compression chains that follow. A *compression recipe* (`compressor.recipe`) is one such chain:
steps that make a trained network smaller. `load_recipe` reads the former, `check_recipe` tries it
in seconds, `reproduce` runs it.
"""

from compressor.reproduce.load import list_recipes, load_recipe
from compressor.reproduce.recipe import TrainingRecipe

__all__ = ["TrainingRecipe", "list_recipes", "load_recipe"]
