"""What a bundle tells `transformers` about writing is what we do."""

import shutil
from pathlib import Path

import pytest

from zhumo.bundle import load
from zhumo.deploy.step import _generation
from zhumo.run import write_json
from zhumo.tasks.write import Write

transformers = pytest.importorskip("transformers")


def test_transformers_writes_the_same_text_and_stops_where_we_do(bundles: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "write"
    shutil.copytree(bundles["write"], folder)
    bundle = load(folder)
    assert isinstance(bundle.task, Write) and bundle.tokenizer is not None
    write_json(folder / "generation_config.json", _generation(bundle.task))
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    assert set(model.generation_config.eos_token_id) == {bundle.tokenizer.special("eos"), bundle.task.closing}
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    messages = [{"role": "user", "content": "soft?"}]
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    theirs = model.generate(**ids, max_new_tokens=20)[0, ids["input_ids"].size(1) :]
    ours = bundle.answer([{"messages": messages, "max_tokens": 20}])[0]
    assert tokenizer.decode(theirs, skip_special_tokens=True) == ours["text"]
