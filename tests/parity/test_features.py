"""The tiny checkpoints are fit to judge by: switching off any one feature moves transformers' own logits by over a tenth of their spread."""
import numpy as np
import pytest
from families import VARIANTS, Case, LONG_ROW, sequences, theirs, without


@pytest.mark.parametrize("name", VARIANTS)
def test_every_feature_matters(name, tmp_path_factory):
    case = Case.of(name, tmp_path_factory)
    rows = sequences(96, [60] + ([LONG_ROW] if case.is_longrope else []), 3)
    reference = theirs(case.model, rows)
    spread = reference.std()
    weak = {}
    for feature, off in without(case.model):
        moved = float(np.sqrt(np.mean((theirs(off, rows) - reference) ** 2)) / spread)
        if not moved > 0.1:
            weak[feature] = moved
    assert not weak
