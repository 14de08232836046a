#!/usr/bin/env python3
"""Oracle of the models and optimizers: what PyTorch and Hugging Face transformers compute for a tiny GPT-2 and a tiny Llama.

    python3 -m venv oracle && oracle/bin/pip install torch transformers safetensors     # once, from PyPI
    oracle/bin/python tests/oracle/models.py make            # writes tests/oracle/data/{gpt,llama}/
    oracle/bin/python tests/oracle/models.py check FOLDER tests/oracle/data/gpt/oracle.json
                            # opens an exported folder in transformers and prints its loss on the oracle's first batch

make writes for each model: a Hugging Face folder (config.json, model.safetensors, f32), oracle.json (tokens, and for each
optimizer loss and gradient norm of ten steps; greedy continuation of a prompt) and gradients-*.safetensors (of the mean
loss, under Hugging Face's names). Everything is computed in f64 from the f32 weights; transformers itself keeps some steps
(RMSNorm, rotary angles, softmax) in f32, so figures are good to about 1e-6.
"""
import json
import os
import sys

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")
VOCABULARY, SEQUENCE, BATCH, STEPS, IGNORED = 61, 16, 4, 10, -1


def gpt():
    config = GPT2Config(vocab_size=VOCABULARY, n_positions=SEQUENCE, n_embd=24, n_layer=2, n_head=3,
                        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=None, eos_token_id=None)
    config._attn_implementation = "eager"
    return GPT2LMHeadModel(config)


def llama():
    config = LlamaConfig(vocab_size=VOCABULARY, max_position_embeddings=SEQUENCE, hidden_size=32, intermediate_size=48,
                         num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, rms_norm_eps=1e-6,
                         rope_theta=5000.0, tie_word_embeddings=False, bos_token_id=None, eos_token_id=None)
    config._attn_implementation = "eager"
    return LlamaForCausalLM(config)


def draw(model, seed):
    """Every parameter away from its usual start, so that none hides an error: no zero biases, no norms of one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            norm_weight = p.dim() == 1 and name.endswith("weight")
            size = 0.1 if p.dim() == 1 else 0.8 if "wpe" in name else 0.2  # positions tell in what the model says next
            p.copy_(1 + size * noise if norm_weight else size * noise)


def batches(seed):
    """Sequences that a model can learn something from (x -> 3x + 1 with noise), some targets ignored."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.zeros(STEPS, BATCH, SEQUENCE + 1, dtype=torch.int64)
    tokens[:, :, 0] = torch.randint(VOCABULARY, (STEPS, BATCH), generator=generator)
    for t in range(SEQUENCE):
        noise = torch.randint(VOCABULARY, (STEPS, BATCH), generator=generator)
        keep = torch.rand(STEPS, BATCH, generator=generator) < 0.8
        tokens[:, :, t + 1] = torch.where(keep, (3 * tokens[:, :, t] + 1) % VOCABULARY, noise)
    targets = tokens[:, :, 1:].clone()
    targets[torch.rand(targets.shape, generator=generator) < 0.15] = IGNORED
    return tokens[:, :, :-1].contiguous(), targets


def mean_loss(model, tokens, targets):
    logits = model(input_ids=tokens).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)


def gradients(model):
    return {name: p.grad.detach().to(torch.float32).contiguous().clone() for name, p in model.named_parameters()}


RUNS = {
    "sgd": dict(learning_rate=0.05, clip=0.0, options=dict(momentum=0.9, nesterov=False, weight_decay=0.01)),
    "adamw": dict(learning_rate=3e-3, clip=1.0, options=dict(beta1=0.9, beta2=0.95, epsilon=1e-8, weight_decay=0.1)),
}


def optimizer(name, model, run):
    o = run["options"]
    groups = [dict(params=[p for p in model.parameters() if p.dim() >= 2], weight_decay=o["weight_decay"]),
              dict(params=[p for p in model.parameters() if p.dim() < 2], weight_decay=0.0)]
    if name == "sgd":
        return torch.optim.SGD(groups, lr=run["learning_rate"], momentum=o["momentum"], nesterov=o["nesterov"])
    return torch.optim.AdamW(groups, lr=run["learning_rate"], betas=(o["beta1"], o["beta2"]), eps=o["epsilon"])


def greedy(model, prompt, count):
    """The continuation by whole forward passes, without a cache, and the logits from which its first token was taken."""
    tokens, first = list(prompt), None
    with torch.no_grad():
        for _ in range(count):
            logits = model(input_ids=torch.tensor([tokens])).logits[0, -1]
            first = logits if first is None else first
            tokens.append(int(logits.argmax()))
    return dict(prompt=list(prompt), continuation=tokens[len(prompt):], logits=[float(x) for x in first])


def make(name, build, seed):
    folder = os.path.join(HERE, name)
    os.makedirs(folder, exist_ok=True)
    model = build()
    draw(model, seed)
    model.save_pretrained(folder)
    for extra in ("generation_config.json",):
        if os.path.exists(os.path.join(folder, extra)):
            os.remove(os.path.join(folder, extra))
    start = {key: value.clone() for key, value in model.state_dict().items()}
    tokens, targets = batches(seed + 1)
    prompt = tokens[0, 0, :5].tolist()
    oracle = dict(model=name, vocabulary=VOCABULARY, sequence=SEQUENCE, batch=BATCH, ignored=IGNORED,
                  tokens=tokens.tolist(), targets=targets.tolist(),
                  greedy=greedy(build_from(build, start), prompt, SEQUENCE - len(prompt)), runs={})
    for kind, run in RUNS.items():
        model = build_from(build, start)
        stepper = optimizer(kind, model, run)
        losses, norms = [], []
        for step in range(STEPS):
            stepper.zero_grad()
            loss = mean_loss(model, tokens[step], targets[step])
            loss.backward()
            if step == 0:
                save_file(gradients(model), os.path.join(folder, "gradients-1.safetensors"))
            if step == STEPS - 1:
                save_file(gradients(model), os.path.join(folder, "gradients-%d-%s.safetensors" % (STEPS, kind)))
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), run["clip"] or float("inf"))
            losses.append(loss.item())
            norms.append(norm.item())
            stepper.step()
        oracle["runs"][kind] = dict(run, losses=losses, norms=norms)
    for file in os.listdir(folder):
        os.chmod(os.path.join(folder, file), 0o644)
    with open(os.path.join(folder, "oracle.json"), "w", encoding="utf-8") as out:
        json.dump(oracle, out)
        out.write("\n")


def build_from(build, state):
    model = build()
    model.load_state_dict(state)
    return model.double().eval()


def check(folder, path):
    with open(path, encoding="utf-8") as opened:
        oracle = json.load(opened)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).double().eval()
    loss = mean_loss(model, torch.tensor(oracle["tokens"][0]), torch.tensor(oracle["targets"][0])).item()
    print(json.dumps(dict(loss=loss, oracle=oracle["runs"]["sgd"]["losses"][0], parameters=model.num_parameters())))


def main():
    torch.set_num_threads(1)
    if sys.argv[1:] == ["make"]:
        make("gpt", gpt, 11)
        make("llama", llama, 12)
    elif len(sys.argv) == 4 and sys.argv[1] == "check":
        check(sys.argv[2], sys.argv[3])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
