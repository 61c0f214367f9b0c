"""Adapters change nothing until they learn, learn alone, fold in exactly, and travel to PEFT and back."""

import json
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForCausalLM, BertConfig, LlamaConfig, PreTrainedModel, Qwen3Config

from benchmarks.parity import CASES, Case, difference, load_ours, their_folder
from zhumo.errors import ModelError
from zhumo.transformer import Config, Transformer, initialise
from zhumo.transformer.families import from_disk, read_config
from zhumo.transformer.lora import TARGETS, LoraLinear, add_lora, halve_frozen, lora_state, merge_lora
from zhumo.weights.adapter import read_adapter, write_adapter

IDS = torch.tensor([[1, 5, 9, 2, 40, 7], [3, 3, 8, 1, 0, 2]])
SIZES = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
         "max_position_embeddings": 32, "initializer_range": 0.3}  # fmt: skip


def tiny(**changes: object) -> Transformer:
    facts = {"vocabulary": 64, "width": 32, "depth": 2, "heads": 4, "kv_heads": 2, "length": 32, "gated": True,
             "positions": "rotary", "norm": "rms", "bias": "none"}  # fmt: skip
    return initialise(Transformer(Config(**{**facts, **changes})), 3).eval()  # type: ignore[arg-type]


def shake(model: nn.Module) -> None:
    """Give every B matrix numbers of its own, as if it had learned."""
    generator = torch.Generator().manual_seed(9)
    for name, parameter in model.named_parameters():
        if name.endswith(".b") or "lora_B" in name:
            nn.init.normal_(parameter, std=0.05, generator=generator)


@torch.no_grad()
def logits(model: nn.Module) -> Tensor:
    out = model.eval()(IDS)
    if isinstance(out, Tensor):
        return out
    found: Tensor = out.logits if hasattr(out, "logits") else out.last_hidden_state
    return found


def test_fresh_adapters_change_nothing() -> None:
    model = tiny()
    before = logits(model)
    assert torch.equal(logits(add_lora(model, 4, 8, TARGETS, seed=0)), before)


def test_only_adapters_learn() -> None:
    model = add_lora(tiny(), 4, 8, ["query", "down"], seed=0)
    assert {name for name, p in model.named_parameters() if p.requires_grad} == set(lora_state(model))
    assert len(lora_state(model)) == 2 * 2 * 2
    shake(model)
    before = {name: p.clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model(IDS).square().mean().backward()
    optimizer.step()
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == set(lora_state(model))


def test_a_tasks_own_head_learns_too() -> None:
    model = tiny(head="none")
    model.head = nn.Linear(32, 3)
    add_lora(model, 2, 4, ["query"], seed=0)
    free = {name for name, p in model.named_parameters() if p.requires_grad}
    assert free == set(lora_state(model)) | {"head.weight", "head.bias"}


def test_merged_computes_the_same_and_is_plain() -> None:
    model = add_lora(tiny(), 4, 8, TARGETS, seed=0)
    names = set(tiny().state_dict())
    shake(model)
    before = logits(model)
    merge_lora(model)
    torch.testing.assert_close(logits(model), before, rtol=0, atol=1e-5)
    assert set(model.state_dict()) == names
    assert not any(isinstance(module, LoraLinear) for module in model.modules())
    assert all(p.requires_grad for p in model.parameters())


def test_merging_a_plain_model_leaves_it_alone() -> None:
    model = tiny().requires_grad_(False)
    merge_lora(model)
    assert not any(p.requires_grad for p in model.parameters())


def test_weights_that_bf16_says_exactly_are_held_in_it_and_come_back_whole() -> None:
    def adapted(*, halved: bool) -> Transformer:
        model = tiny()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "down" not in name:  # that one bf16 cannot say
                    parameter.copy_(parameter.bfloat16())
        add_lora(model, 4, 8, TARGETS, seed=0)
        shake(model)
        if halved:
            halve_frozen(model)
        return model

    whole, halved = adapted(halved=False), adapted(halved=True)
    kinds = {name.split(".")[-3]: p.dtype for name, p in halved.named_parameters() if name.endswith("base.weight")}
    assert kinds == {name: torch.float32 if name == "down" else torch.bfloat16 for name in TARGETS}
    assert all(p.dtype == torch.float32 for p in halved.parameters() if p.requires_grad)
    assert torch.equal(logits(halved), logits(whole))

    def slopes(model: Transformer) -> list[Tensor]:
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(IDS).float().square().mean()
        return list(torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad]))

    assert all(map(torch.equal, slopes(halved), slopes(whole)))
    plain, told = merge_lora(halved).state_dict(), merge_lora(whole).state_dict()
    assert all(plain[name].dtype == torch.float32 and torch.equal(plain[name], told[name]) for name in told)


def test_a_seed_makes_the_same_adapters() -> None:
    one, same, other = (lora_state(add_lora(tiny(), 4, 8, TARGETS, seed)) for seed in (1, 1, 2))
    assert all(torch.equal(tensor, same[name]) for name, tensor in one.items())
    assert not torch.equal(one["blocks.0.attention.query.a"], other["blocks.0.attention.query.a"])


def test_wrong_targets_are_refused() -> None:
    with pytest.raises(ValueError, match="no layer of a block is called qurey"):
        add_lora(tiny(), 4, 8, ["qurey"], seed=0)
    with pytest.raises(ValueError, match="no layer of this model"):
        add_lora(tiny(gated=False), 4, 8, ["gate"], seed=0)
    with pytest.raises(ValueError, match="query is a LoraLinear"):
        add_lora(add_lora(tiny(), 4, 8, ["query"], seed=0), 4, 8, ["query"], seed=0)


def test_a_refusal_leaves_the_model_as_it_was() -> None:
    model = merge_lora(add_lora(tiny(), 4, 8, ["up"], seed=0))
    block = model.blocks[1].get_submodule("feed_forward")
    block.up = LoraLinear(block.get_submodule("up"), 4, 8, torch.Generator())  # type: ignore[arg-type]
    before = {name: (type(module), module.training) for name, module in model.named_modules()}
    learning = [parameter.requires_grad for parameter in model.parameters()]
    with pytest.raises(ValueError, match="up is a LoraLinear"):
        add_lora(model, 2, 4, ["query", "up"], seed=0)
    assert before == {name: (type(module), module.training) for name, module in model.named_modules()}
    assert learning == [parameter.requires_grad for parameter in model.parameters()] and any(learning)


def pair(family: str, seed: int) -> tuple[Transformer, PreTrainedModel]:
    """The same random weights in our model and in that of transformers."""
    torch.manual_seed(seed)
    if family == "bert":
        theirs = AutoModel.from_config(BertConfig(**SIZES), add_pooling_layer=False)
    elif family == "llama":
        theirs = AutoModelForCausalLM.from_config(LlamaConfig(**SIZES, num_key_value_heads=2))
    else:
        theirs = AutoModelForCausalLM.from_config(Qwen3Config(**SIZES, num_key_value_heads=1, head_dim=16))
    facts = {**theirs.config.to_dict(), "architectures": [type(theirs).__name__]}
    config = read_config(facts)
    ours = Transformer(config).eval()
    ours.load_state_dict(from_disk(theirs.state_dict(), config, family))
    return ours, theirs.eval()


@pytest.mark.parametrize("targets", [("query", "value"), TARGETS], ids=len)
@pytest.mark.parametrize("family", ["llama", "qwen3", "bert"])
def test_ours_loads_in_peft(family: str, targets: tuple[str, ...], tmp_path: Path) -> None:
    ours, theirs = pair(family, 11)
    plain = logits(ours)
    add_lora(ours, 4, 12, targets, seed=0)
    shake(ours)
    write_adapter(tmp_path, ours, family)
    loaded = peft.PeftModel.from_pretrained(theirs, tmp_path)
    adapted = {name for name, _ in loaded.named_modules() if name.endswith("lora_A")}
    assert len(adapted) == len(lora_state(ours)) // 2  # no layer more, no layer less
    wanted = logits(merge_lora(ours))
    assert (wanted - plain).abs().max() > 0.01
    torch.testing.assert_close(logits(loaded), wanted, rtol=0, atol=1e-5)
    torch.testing.assert_close(logits(loaded.merge_and_unload()), wanted, rtol=0, atol=1e-5)


THEIR_TARGETS = {
    "llama": ["q_proj", "v_proj", "down_proj"],
    "qwen3": ["k_proj", "o_proj", "up_proj", "gate_proj"],
    "bert": ["query", "intermediate.dense"],
}


@pytest.mark.parametrize("rank_stable", [False, True])
@pytest.mark.parametrize("family", THEIR_TARGETS)
def test_theirs_loads_in_ours(family: str, rank_stable: bool, tmp_path: Path) -> None:
    ours, theirs = pair(family, 12)
    settings = peft.LoraConfig(r=4, lora_alpha=6, target_modules=THEIR_TARGETS[family], use_rslora=rank_stable)
    adapted = peft.get_peft_model(theirs, settings)
    shake(adapted)
    adapted.save_pretrained(tmp_path)
    wanted = logits(adapted)
    read_adapter(tmp_path, ours, family)
    torch.testing.assert_close(logits(ours), wanted, rtol=0, atol=1e-5)
    torch.testing.assert_close(logits(merge_lora(ours)), wanted, rtol=0, atol=1e-5)


def test_out_and_in_again_is_the_same(tmp_path: Path) -> None:
    model = add_lora(tiny(), 3, 5, ["query", "up"], seed=0)
    shake(model)
    write_adapter(tmp_path, model, "llama", base="somebody/something")
    again = lora_state(read_adapter(tmp_path, tiny(), "llama"))
    assert all(torch.equal(tensor, again[name]) for name, tensor in lora_state(model).items())
    assert set(load_file(tmp_path / "adapter_model.safetensors")) >= {
        "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    }
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["target_modules"] == ["q_proj", "up_proj"]
    assert config["base_model_name_or_path"] == "somebody/something"


def test_gpt2_is_refused(tmp_path: Path) -> None:
    plain = {"positions": "learned", "gated": False, "kv_heads": 4, "norm": "layer", "bias": "all"}
    model = add_lora(tiny(**plain), 4, 8, ["query"], seed=0)
    with pytest.raises(ModelError, match="gpt2 cannot be kept"):
        write_adapter(tmp_path, model, "gpt2")


def test_no_adapter_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="There are no adapters"):
        write_adapter(tmp_path, tiny(), "llama")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"peft_type": "IA3"}, "not a LoRA adapter"),
        ({"use_dora": True}, "use_dora = True"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"rank_pattern": {"q_proj": 8}}, "rank_pattern"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights"),
        ({"bias": "all"}, "bias = all"),
        ({"a_key_of_tomorrow": 1}, "a_key_of_tomorrow"),
        ({"r": 0}, "r is 0"),
        ({"r": 8}, "not (8, 32)"),
    ],
    ids=str,
)
def test_what_we_cannot_compute_is_refused(change: dict[str, object], said: str, tmp_path: Path) -> None:
    write_adapter(tmp_path, add_lora(tiny(), 4, 8, ["query"], seed=0), "llama")
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(ModelError) as error:
        read_adapter(tmp_path, tiny(), "llama")
    assert said in str(error.value)


def test_an_adapter_of_another_model_is_refused(tmp_path: Path) -> None:
    write_adapter(tmp_path, add_lora(tiny(depth=3), 4, 8, ["query"], seed=0), "llama")
    with pytest.raises(ModelError, match=r"no layer of this model for layers\.2"):
        read_adapter(tmp_path, tiny(), "llama")
    write_adapter(tmp_path, add_lora(tiny(depth=1), 4, 8, ["query"], seed=0), "llama")
    with pytest.raises(ModelError, match="is missing"):
        read_adapter(tmp_path, tiny(), "llama")


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe", b"9" * 1_000_001], ids=len)
def test_damaged_files_are_refused(content: bytes, tmp_path: Path) -> None:
    write_adapter(tmp_path, add_lora(tiny(), 4, 8, ["query"], seed=0), "llama")
    (tmp_path / "adapter_config.json").write_bytes(content)
    with pytest.raises(ModelError):
        read_adapter(tmp_path, tiny(), "llama")


def test_missing_weights_are_said(tmp_path: Path) -> None:
    write_adapter(tmp_path, add_lora(tiny(), 4, 8, ["query"], seed=0), "llama")
    (tmp_path / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match="adapter_model"):
        read_adapter(tmp_path, tiny(), "llama")


@pytest.mark.parametrize("case", [case for case in CASES if case.name in ("1.1, own head", "scaled, swish")], ids=str)
def test_an_encoder_decoder_has_adapters_on_both_sides(case: Case, tmp_path: Path) -> None:
    theirs = their_folder(case, tmp_path)
    ours = load_ours(tmp_path)
    shake(add_lora(ours, 2, 4, TARGETS, seed=0))
    write_adapter(tmp_path, ours, case.family)
    loaded = peft.PeftModel.from_pretrained(theirs, tmp_path)
    names = [name for name, _ in loaded.named_modules() if name.endswith("lora_A")]
    assert len(names) == len(lora_state(ours)) // 2
    assert any(".encoder." in name for name in names)
    again = read_adapter(tmp_path, load_ours(tmp_path), case.family)
    assert all(torch.equal(tensor, lora_state(again)[name]) for name, tensor in lora_state(ours).items())
    assert difference(loaded, merge_lora(ours)) < 1e-4
