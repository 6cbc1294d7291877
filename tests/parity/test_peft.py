"""An adapter of attar's, loaded and merged by the peft package, is attar's own merged model."""
import json

import pytest
import torch

from test_model import stories_folder

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def base(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("peft") / "base"
    stories_folder(folder)
    return folder


@pytest.mark.parametrize("targets,rank,alpha", [(["q_proj", "v_proj"], 4, 8), (["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"], 2, 3)])
def test_peft_merges_to_our_model(attar, base, tmp_path, targets, rank, alpha):
    peft = pytest.importorskip("peft", reason="SKIPPED LOUDLY: peft is not installed (tests/parity/requirements.txt)")
    (tmp_path / "text.txt").write_text("\n\n".join(f"Once upon a time there were {i} little cats. They liked to play in the park." for i in range(60)))
    words = [word for target in targets for word in ("--lora.targets", target)]
    attar("distill", "--model", base, "--data", tmp_path / "text.txt", "--seq", 32, "--batch", 4, "--steps", 5, "--lr", "1e-2", "--train.warmup", 1, "--lora.rank", rank,
          "--lora.alpha", alpha, *words, "--out", tmp_path / "ours", check=0)
    assert json.loads((tmp_path / "ours/adapter/adapter_config.json").read_text())["target_modules"] == targets
    before = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    untouched = {name: tensor.clone() for name, tensor in before.state_dict().items()}
    wrapped = peft.PeftModel.from_pretrained(before, tmp_path / "ours" / "adapter")
    merged = wrapped.merge_and_unload().state_dict()
    ours = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours", dtype=torch.float32).state_dict()
    assert merged.keys() == ours.keys()
    changed = 0
    for name, tensor in ours.items():
        if any(name.endswith(f"{target}.weight") for target in targets):
            assert (tensor - untouched[name]).abs().max() > 1e-4, f"{name} was not trained"
            changed += 1
        else:
            assert torch.equal(tensor, untouched[name]), name
        assert (tensor - merged[name]).abs().max() <= 1e-6 * max(1.0, tensor.abs().max().item()), name
    assert changed == len(targets) * 5
