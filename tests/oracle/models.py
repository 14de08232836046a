#!/usr/bin/env python3
"""Oracle of models and optimizers: what PyTorch and transformers compute for a tiny GPT-2 and a tiny Llama.

    python3 -m venv oracle && oracle/bin/pip install torch transformers safetensors     # once, from PyPI
    oracle/bin/python tests/oracle/models.py make            # writes tests/oracle/data/{gpt,llama}/
    oracle/bin/python tests/oracle/models.py check FOLDER tests/oracle/data/gpt/oracle.json
                            # opens an exported folder in transformers and prints its loss on the oracle's first batch

make writes for each model, all under Hugging Face's names:
  config.json, model.safetensors    a Hugging Face folder, f32
  tokens.bin                        the tokens in llm.c's form; sequence i of the run begins at token i * SEQUENCE
  oracle.json                       for each optimizer loss and gradient norm of ten steps; the first step once more
                                    with some targets ignored; the greedy continuation of a prompt
  gradients-*.safetensors           of the mean loss at steps 1 and 10
  weights-10-*.safetensors          after the tenth step
Everything is computed in f64 from the f32 weights and rounded to f32 when it is written. Where transformers keeps a
step in f32 whatever the weights are (RMSNorm, rotary angles, softmax), exact() puts f64 in its place.

The learning rates are small enough that f32 stays near f64 for ten steps; `make` prints how near PyTorch's own f32 is.
What drives f32 away is Adam: where the gradient of an element is nearly zero, its rounding error decides a step of full
size. It is so for the whole key bias of GPT, whose gradient is exactly zero; nothing else depends on that bias.
"""
import json
import os
import struct
import sys

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
from transformers.models.llama import modeling_llama

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")
VOCABULARY, SEQUENCE, BATCH, STEPS, IGNORED = 61, 16, 4, 10, -1


def exact():
    """Llama of transformers without its f32 steps; scaled_dot_product_attention has none."""
    def norm(self, x):
        return self.weight * (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.variance_epsilon))

    def rotary(self, x, position_ids):
        config = self.config
        width = config.hidden_size // config.num_attention_heads
        base = config.rope_parameters["rope_theta"]
        inverse = base ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
        angles = position_ids[:, :, None].double() * inverse
        both = torch.cat((angles, angles), dim=-1)
        return both.cos().to(x.dtype), both.sin().to(x.dtype)

    modeling_llama.LlamaRMSNorm.forward = norm
    modeling_llama.LlamaRotaryEmbedding.forward = rotary


def gpt():
    config = GPT2Config(vocab_size=VOCABULARY, n_positions=SEQUENCE, n_embd=18, n_layer=2, n_head=3,
                        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=None, eos_token_id=None)
    config._attn_implementation = "sdpa"
    return GPT2LMHeadModel(config)


def llama():
    config = LlamaConfig(vocab_size=VOCABULARY, max_position_embeddings=SEQUENCE, hidden_size=24, intermediate_size=36,
                         num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, rms_norm_eps=1e-6,
                         rope_theta=5000.0, tie_word_embeddings=False, bos_token_id=None, eos_token_id=None)
    config._attn_implementation = "sdpa"
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


def text(seed):
    """Tokens that a model can learn something from: x -> 3x + 1 with noise."""
    generator = torch.Generator().manual_seed(seed)
    count = STEPS * BATCH * SEQUENCE + 1
    noise = torch.randint(VOCABULARY, (count,), generator=generator).tolist()
    keep = (torch.rand(count, generator=generator) < 0.8).tolist()
    tokens = noise[:1]
    for i in range(1, count):
        tokens.append((3 * tokens[-1] + 1) % VOCABULARY if keep[i] else noise[i])
    return tokens


def write_tokens(path, tokens):
    """As llm.c's scripts do: 256 numbers of 32 bits (magic number, version, count, zeros), then 16 bits a token."""
    with open(path, "wb") as out:
        out.write(struct.pack("<256i", 20240520, 1, len(tokens), *[0] * 253))
        out.write(struct.pack("<%dH" % len(tokens), *tokens))


def batches(tokens):
    """Inputs and targets, each [STEPS, BATCH, SEQUENCE]."""
    tokens = torch.tensor(tokens)
    shape = (STEPS, BATCH, SEQUENCE)
    return tokens[:-1].reshape(shape), tokens[1:].reshape(shape)


def mean_loss(model, tokens, targets):
    logits = model(input_ids=tokens).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)


def save(tensors, folder, name):
    """name -> tensor, as f32."""
    rounded = {key: x.detach().to(torch.float32).contiguous().clone() for key, x in tensors.items()}
    save_file(rounded, os.path.join(folder, name + ".safetensors"))


def gradients(model):
    return {name: p.grad for name, p in model.named_parameters()}


def ignoring(model, tokens, targets, seed):
    """Loss and gradient norm of a batch of which some targets do not count."""
    targets = targets.clone()
    targets[torch.rand(targets.shape, generator=torch.Generator().manual_seed(seed)) < 0.15] = IGNORED
    model.zero_grad()
    loss = mean_loss(model, tokens, targets)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), float("inf"))
    flat = dict(tokens=tokens.flatten().tolist(), targets=targets.flatten().tolist())
    return dict(flat, loss=loss.item(), norm=norm.item())


RUNS = {
    "sgd": dict(learning_rate=0.02, clip=0.0, options=dict(momentum=0.9, nesterov=False, weight_decay=0.01)),
    "adamw": dict(learning_rate=3e-4, clip=1.0, options=dict(beta1=0.9, beta2=0.95, epsilon=1e-8, weight_decay=0.1)),
}


def optimizer(name, model, run):
    o = run["options"]
    groups = [dict(params=[p for p in model.parameters() if p.dim() >= 2], weight_decay=o["weight_decay"]),
              dict(params=[p for p in model.parameters() if p.dim() < 2], weight_decay=0.0)]
    if name == "sgd":
        return torch.optim.SGD(groups, lr=run["learning_rate"], momentum=o["momentum"], nesterov=o["nesterov"])
    return torch.optim.AdamW(groups, lr=run["learning_rate"], betas=(o["beta1"], o["beta2"]), eps=o["epsilon"])


def greedy(model, prompt, count):
    """The continuation by whole forward passes, without a cache, and the logits that gave its first token."""
    tokens, first = list(prompt), None
    with torch.no_grad():
        for _ in range(count):
            logits = model(input_ids=torch.tensor([tokens])).logits[0, -1]
            first = logits if first is None else first
            tokens.append(int(logits.argmax()))
    return dict(prompt=list(prompt), continuation=tokens[len(prompt):], logits=[float(x) for x in first])


def train(model, kind, run, tokens, targets):
    """Ten steps. Losses, norms, gradients of the first and the last step; the model has its new weights."""
    stepper = optimizer(kind, model, run)
    losses, norms, kept = [], [], {}
    for step in range(STEPS):
        stepper.zero_grad()
        loss = mean_loss(model, tokens[step], targets[step])
        loss.backward()
        if step in (0, STEPS - 1):
            kept[step + 1] = {name: g.clone() for name, g in gradients(model).items()}
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), run["clip"] or float("inf"))
        losses.append(loss.item())
        norms.append(norm.item())
        stepper.step()
    return losses, norms, kept


def make(name, build, seed):
    folder = os.path.join(HERE, name)
    os.makedirs(folder, exist_ok=True)
    model = build()
    draw(model, seed)
    model.save_pretrained(folder)
    if os.path.exists(os.path.join(folder, "generation_config.json")):
        os.remove(os.path.join(folder, "generation_config.json"))
    start = {key: value.clone() for key, value in model.state_dict().items()}
    stream = text(seed + 1)
    write_tokens(os.path.join(folder, "tokens.bin"), stream)
    tokens, targets = batches(stream)
    oracle = dict(model=name, vocabulary=VOCABULARY, sequence=SEQUENCE, batch=BATCH, ignored=IGNORED,
                  greedy=greedy(build_from(build, start), stream[:5], SEQUENCE - 5),
                  ignoring=ignoring(build_from(build, start), tokens[0], targets[0], seed + 2), runs={})
    for kind, run in RUNS.items():
        model = build_from(build, start)
        losses, norms, kept = train(model, kind, run, tokens, targets)
        oracle["runs"][kind] = dict(run, losses=losses, norms=norms)
        save(kept[1], folder, "gradients-1")
        save(kept[STEPS], folder, "gradients-%d-%s" % (STEPS, kind))
        save(dict(model.named_parameters()), folder, "weights-%d-%s" % (STEPS, kind))
        far(name, kind, train(build_from(build, start).float(), kind, run, tokens, targets), (losses, norms, kept))
    for file in os.listdir(folder):
        os.chmod(os.path.join(folder, file), 0o644)
    with open(os.path.join(folder, "oracle.json"), "w", encoding="utf-8") as out:
        json.dump(oracle, out)
        out.write("\n")


def far(name, kind, single, double):
    """Prints how far PyTorch's own f32 is from its f64: what an f32 implementation may differ at least."""
    loss = max(abs(a - b) / b for a, b in zip(single[0], double[0]))
    worst = {step: max(((single[2][step][key].double() - g).norm() / g.norm()).item() for key, g in tensors.items())
             for step, tensors in double[2].items()}
    print("%s %s: f32 against f64: loss %.1e, gradients %s" %
          (name, kind, loss, ", ".join("step %d %.1e" % pair for pair in worst.items())))


def build_from(build, state):
    model = build()
    model.load_state_dict(state)
    return model.double().eval()


def check(folder, path):
    with open(path, encoding="utf-8") as opened:
        oracle = json.load(opened)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).double().eval()
    with open(os.path.join(os.path.dirname(path), "tokens.bin"), "rb") as opened:
        opened.seek(256 * 4)
        tokens, targets = batches([token for (token,) in struct.iter_unpack("<H", opened.read())])
    loss = mean_loss(model, tokens[0], targets[0]).item()
    print(json.dumps(dict(loss=loss, oracle=oracle["runs"]["sgd"]["losses"][0], parameters=model.num_parameters())))


def main():
    torch.set_num_threads(1)
    exact()
    if sys.argv[1:] == ["make"]:
        make("gpt", gpt, 31)
        make("llama", llama, 12)
    elif len(sys.argv) == 4 and sys.argv[1] == "check":
        check(sys.argv[2], sys.argv[3])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
