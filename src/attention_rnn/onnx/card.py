"""What stands beside the graphs of a folder: a README that says how they are called, and a runner in one file."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from onnx import ModelProto, TensorProto, ValueInfoProto
from transformers import PreTrainedTokenizerFast

from ..run_folder import NEXT
from .decoding import ANSWERING, CAUSAL, CONFIG, SEQ2SEQ, is_exported

_HEAD = """# An attention RNN as ONNX graphs

Task: `{task}`. Weights: `{weights}`. No torch is needed. With Python, numpy, onnxruntime and tokenizers:

```python
from run_onnx import OnnxRunner  # of this folder; or, with the package: from attention_rnn import OnnxRunner

runner = OnnxRunner.from_pretrained(".")
print(runner({example}))
```

or `python run_onnx.py {arguments}`. `config.json` holds what is not in the graphs: special tokens, settings, labels.
The tokenizer's files are those of the `tokenizers` library.

## Graphs

ids are `int64`, everything else `float32` where nothing is said. Padding is 0 in `attention_mask`.
"""
_PARTS = {
    "encoder.onnx": "Reads sources: what the decoder looks at (`keys`, `values`, `mask`) and its first state.",
    "step.onnx": """One token of each row. `tokens` are the last ones, `k` says how many of the best to return; the
outputs that end in `_next` are the states of the next call.{start}{beams}""",
    "generate.onnx": "Greedy decoding in one call, of at most `max_new_tokens` tokens.{prompt}",
    "model.onnx": "Reads texts.",
}
_GENERATE = """
## The same without this runner

```python
import numpy as np
import onnxruntime
from tokenizers import Tokenizer

source, target = Tokenizer.from_file("tokenizer.json"), Tokenizer.from_file("{target}")
session = onnxruntime.InferenceSession("generate.onnx")
ids = np.array([source.encode({text}).ids])
inputs = {{"input_ids": ids, "attention_mask": np.ones_like(ids), "max_new_tokens": np.array({length})}}
(sequence,) = session.run(["sequences"], inputs)[0]
print(target.decode(sequence.tolist()))
```

In JavaScript, after `npm install onnxruntime-web @huggingface/tokenizers`:

```js
import {{ readFileSync }} from "node:fs";
import {{ Tokenizer }} from "@huggingface/tokenizers";
import {{ InferenceSession, Tensor }} from "onnxruntime-web";

const open = (file) => new Tokenizer(JSON.parse(readFileSync(file)), {{ unk_token: {unknown} }});
const integers = (values, dims) => new Tensor("int64", BigInt64Array.from(values, BigInt), dims);
const session = await InferenceSession.create(readFileSync("generate.onnx"));
const ids = open("tokenizer.json").encode({text}).ids;
const {{ sequences }} = await session.run({{
  input_ids: integers(ids, [1, ids.length]),
  attention_mask: integers(ids.map(() => 1), [1, ids.length]),
  max_new_tokens: integers([{length}], []),
}});
console.log(open("{target}").decode(Array.from(sequences.data, Number), {{ skip_special_tokens: true }}));
```

In C++ the ids of a text come from the bindings of the tokenizers library, or, of characters, from the vocabulary in
`tokenizer.json`. With `example.cpp` beside the graphs, `g++ -std=c++17 example.cpp -lonnxruntime` (headers and library
are Debian's `libonnxruntime-dev`, or a release of ONNX Runtime):

```cpp
#include <onnxruntime_cxx_api.h>

#include <iostream>
#include <vector>

int main() {{
  Ort::Env environment;
  Ort::Session session(environment, "generate.onnx", Ort::SessionOptions());
  const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  const auto integers = [&](std::vector<int64_t>& values, const std::vector<int64_t>& shape) {{
    return Ort::Value::CreateTensor<int64_t>(memory, values.data(), values.size(), shape.data(), shape.size());
  }};
  std::vector<int64_t> ids{{{ids}}}, mask(ids.size(), 1), length{{{length}}};  // {text}
  const int64_t count = ids.size();
  std::vector<Ort::Value> inputs;
  inputs.push_back(integers(ids, {{1, count}}));
  inputs.push_back(integers(mask, {{1, count}}));
  inputs.push_back(integers(length, {{}}));
  const char *names[] = {{"input_ids", "attention_mask", "max_new_tokens"}}, *results[] = {{"sequences"}};
  const auto outputs = session.Run(Ort::RunOptions(), names, inputs.data(), inputs.size(), results, 1);
  const auto* sequence = outputs[0].GetTensorData<int64_t>();
  const size_t produced = outputs[0].GetTensorTypeAndShapeInfo().GetElementCount();
  for (size_t place = 0; place < produced; place++) std::cout << sequence[place] << ' ';
}}
```
"""


def refuse_checkpoint(folder: str | Path) -> None:
    """
    Raises:
        ValueError: a checkpoint lies in the folder, whose files have the names of an export's, or is being written.
    """
    folder = Path(folder)
    is_of_training = (folder / NEXT).exists() or any(folder.glob("checkpoint-*"))
    if is_of_training or ((folder / CONFIG).exists() and not is_exported(folder)):
        raise ValueError(f"{folder} holds a checkpoint, which an export would destroy: name another folder.")


def begin_folder(folder: Path) -> None:
    """Make a folder, or take from it the graphs and vocabularies of an earlier export, which may be of another task."""
    folder.mkdir(parents=True, exist_ok=True)
    if is_exported(folder):  # else such files are not ours
        for file in (*folder.glob("*.onnx"), *folder.glob("*tokenizer.json")):
            file.unlink()


def write_card(
    folder: Path, config: Mapping[str, Any], graphs: Mapping[str, ModelProto], tokenizer: PreTrainedTokenizerFast
) -> None:
    """Write `README.md` into the folder of these graphs."""
    task = config["task"]
    example = arguments = '"gehen V;PST"' if config["spelt"] else '"a text"'
    if task == ANSWERING:
        example, arguments = '{"question": "a question", "context": "a text"}', '"a question" "a text"'
    parts = [_HEAD.format(task=task, weights=config["weights"], example=example, arguments=arguments)]
    start = config["special_tokens"]["start"]
    blanks = {
        "start": f" The first token is {start}." if task == SEQ2SEQ else " The states before the first are zero.",
        "beams": "",
        "prompt": " `sequences` begin with `input_ids`, which are padded on the right." if task == CAUSAL else "",
    }
    if task == SEQ2SEQ:
        blanks["beams"] = " There may be several rows about each source, which follow each other" + (
            ", as do the rows of its memory." if config["repeats_memory"] else "; they share its memory."
        )
    for name, graph in graphs.items():
        parts.append(describe_graph(name, _PARTS[name].format(**blanks), graph))
    if "generate.onnx" in graphs and not config["copy"]:
        target = "target_tokenizer.json" if config["has_target_tokenizer"] else "tokenizer.json"
        length = config["generation"]["max_new_tokens"] or config["max_length"]
        unknown = json.dumps(config["unk_token"])
        text = '"g e h e n [V] [PST]"' if config["spelt"] else example
        ids = ", ".join(map(str, tokenizer(json.loads(text))["input_ids"]))
        parts.append(_GENERATE.format(target=target, text=text, length=length, unknown=unknown, ids=ids))
    (folder / "README.md").write_text("\n".join(parts), encoding="utf-8")


def describe_graph(name: str, what: str, graph: ModelProto) -> str:
    """What a graph does, and its inputs and outputs as a table."""
    table = ["| | name | type | shape |", "|---|---|---|---|"]
    for kind, values in (("input", graph.graph.input), ("output", graph.graph.output)):
        table += [f"| {kind} | `{value.name}` | {_type(value)} | {_shape(value)} |" for value in values]
    return f"### {name}\n\n{what}\n\n" + "\n".join(table) + "\n"


def _type(value: ValueInfoProto) -> str:
    return TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower()


def _shape(value: ValueInfoProto) -> str:
    axes = value.type.tensor_type.shape.dim
    names = (str(axis.dim_value or axis.dim_param) for axis in axes)
    # a length that torch has computed has a long formula for a name
    return "(" + ", ".join(name if len(name) < 20 else "…" for name in names) + ")"


def one_file(*modules: ModuleType) -> str:
    """A runner, the last module, with the files that it imports, as one that stands alone."""
    parts = [Path(str(module.__file__)).read_text(encoding="utf-8") for module in modules]
    own_import = re.compile(r"^from \.\w+ import (\([^)]*\)|[^\n]*)\n", re.MULTILINE)
    return "\n\n".join(own_import.sub("", part) for part in parts)
