"""BraTS T1ce: the paper's four questions; see ``kaggle.py`` for what they are and how long they take.

python cli.py sweep --dataset brats_t1ce
"""

from search_spaces.kaggle import SPACE as SPACE
