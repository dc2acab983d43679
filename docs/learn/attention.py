# %% [markdown] lang="en"
# # 4. Attention
#
# Whoever translates a sentence looks back at it. Attention (Bahdanau, Cho and Bengio, 2015) lets a decoder do so: for
# every token that it writes, it asks all states of the encoder which of them matter now.

# %% [markdown] lang="zh"
# # 4. 注意力
#
# 翻译句子的人会回头看原文。注意力（Bahdanau、Cho 和 Bengio，2015）让解码器也能这样做：每写一个词元，它都问编码器的所有
# 状态，此刻哪些重要。

# %%
import datetime
import random
import tempfile

import matplotlib.pyplot as plt
import torch
from IPython.display import Image, display
from matplotlib.animation import FuncAnimation, PillowWriter

from attention_rnn import AttentionRnnConfig, AttentionRnnForConditionalGeneration
from attention_rnn.alignment import alignment_from_outputs
from attention_rnn.models.attention import AdditiveAttention, Memory
from attention_rnn.plotting import plot_alignment
from attention_rnn.tokenizer_training import pair_tokenizers, train_tokenizer

# %% [markdown] lang="en"
# ## Score, weights, context
#
# Three equations, for a query $s$ (a state of the decoder) and a memory $h_1 \ldots h_n$ (the states of the encoder):
#
# | | equation | in words |
# | --- | --- | --- |
# | score | $e_j = v^\top \tanh(W s + U h_j + b)$ | how well position $j$ fits the query |
# | weights | $\alpha_j = \frac{\exp e_j}{\sum_k \exp e_k}$ | positive, and one in all |
# | context | $c = \sum_j \alpha_j h_j$ | the mean of the memory by these weights, which the decoder then reads |
#
# By hand, on a memory of five states, and compared with the module that all models of this package use:

# %% [markdown] lang="zh"
# ## 打分、权重、上下文
#
# 三个公式，其中 $s$ 是查询（解码器的一个状态），$h_1 \ldots h_n$ 是记忆（编码器的各个状态）：
#
# | | 公式 | 含义 |
# | --- | --- | --- |
# | 打分 | $e_j = v^\top \tanh(W s + U h_j + b)$ | 位置 $j$ 与查询有多匹配 |
# | 权重 | $\alpha_j = \frac{\exp e_j}{\sum_k \exp e_k}$ | 都为正，总和为一 |
# | 上下文 | $c = \sum_j \alpha_j h_j$ | 按这些权重对记忆求平均，供解码器读取 |
#
# 先在含五个状态的记忆上手算，再与本软件包所有模型都使用的模块比较：

# %%
torch.manual_seed(0)
attention = AdditiveAttention(AttentionRnnConfig(hidden_size=6, bidirectional=False))
query, memory = torch.randn(6), torch.randn(5, 6)

W, U, b = attention.query.weight, attention.memory.weight, attention.memory.bias
v = attention.energy.weight[0]
scores = torch.stack([v @ torch.tanh(W @ query + U @ state + b) for state in memory])
weights = scores.exp() / scores.exp().sum()
context = sum(weight * state for weight, state in zip(weights, memory, strict=True))

keys, values = attention.project(memory[None])
nothing_before = torch.zeros(1, 0, 5)  # for scores that look back at the last weights
module_context, module_weights, _ = attention(query[None, None], Memory(keys, values, None), nothing_before, None)
print("scores ", [f"{score:5.2f}" for score in scores.tolist()])
print("weights", [f"{weight:5.2f}" for weight in weights.tolist()], f"sum {weights.sum():.2f}")
print(f"largest difference to the module: {(context - module_context[0, 0]).abs().max():.0e}")

# %% [markdown] lang="en"
# ## Watching it being learned
#
# Nobody tells the model where to look: the weights are differentiable, so the loss does. The task: read `7 Jan 2089`,
# write `2089-01-07`. Every six steps we keep where it looks while it writes one date that is not among those it learns.

# %% [markdown] lang="zh"
# ## 看它怎样学会
#
# 没有人告诉模型该看哪里：权重可微，所以由损失来教。任务是读 `7 Jan 2089`，写 `2089-01-07`。每六步记录一次它在写一个
# 训练数据之外的日期时看向哪里。

# %%
rng = random.Random(0)
MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
EXAMPLE = datetime.date(2089, 1, 7)


def written(day):
    return f"{day.day} {MONTHS[day.month - 1]} {day.year}"


days = [datetime.date(1900, 1, 1) + datetime.timedelta(days=rng.randrange(73000)) for _ in range(3000)]
days = [day for day in days if day != EXAMPLE]
sources, targets = [written(day) for day in days], [day.isoformat() for day in days]
tokenizer = pair_tokenizers(train_tokenizer(sources, kind="character"), train_tokenizer(targets, kind="character"))


def encode(sources, targets):
    batch = tokenizer(sources, text_target=targets, padding=True, return_tensors="pt")
    batch["labels"][batch["labels"] == tokenizer.pad_token_id] = -100
    return batch


data = encode(sources, targets)
example = encode([written(EXAMPLE)], [EXAMPLE.isoformat()])
source_tokens, target_tokens = [*written(EXAMPLE), "</s>"], [*EXAMPLE.isoformat(), "</s>"]


def look(model):
    model.eval()
    with torch.no_grad():
        weights = alignment_from_outputs(model(**example, output_attentions=True))[0]
    model.train()
    return weights


def train(attention_type, steps=120, watch=None):
    torch.manual_seed(0)
    config = AttentionRnnConfig(
        source_vocab_size=len(tokenizer),
        vocab_size=len(tokenizer.target),
        attention_type=attention_type,
        bidirectional=attention_type not in ("dot", "scaled_dot"),  # these need a memory as wide as the state
        embedding_size=32,
        hidden_size=48,
    )
    model = AttentionRnnForConditionalGeneration(config)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=steps)
    for step in range(steps):
        if watch is not None and step % 6 == 0:
            watch(step, look(model))
        rows = torch.randint(len(days), (32,))
        loss = model(**{name: tensor[rows] for name, tensor in data.items()}).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    if watch is not None:
        watch(steps, look(model))
    return model, loss.item()


frames = []
model, loss = train("general", watch=lambda step, weights: frames.append((step, weights)))
print(f"loss at the end: {loss:.3f} nats a character")

# %% figure="Six heat maps side by side, from the first step of the training to the last: from even weights to one dark cell in each row, the year first, then the month, then the day."
figure, axes = plt.subplots(1, 6, figsize=(9, 2), sharey=True, layout="constrained")
for ax, (step, weights) in zip(axes, frames[:: len(frames) // 5], strict=True):
    ax.imshow(weights, vmin=0, vmax=1, aspect="equal")
    ax.set(title=f"step {step}", xticks=range(11), yticks=range(11))
    ax.set_xticklabels([*source_tokens[:-1], "·"], fontsize=6)
    ax.set_yticklabels([*target_tokens[:-1], "·"], fontsize=6)
plt.show()

# %% figure="The same as an animation: even weights become a sharp alignment."
figure, ax = plt.subplots(figsize=(2.6, 2.8), dpi=110, layout="constrained")
image = ax.imshow(frames[0][1], vmin=0, vmax=1, aspect="equal")
ax.set_xticks(range(11), [*source_tokens[:-1], "·"])
ax.set_yticks(range(11), [*target_tokens[:-1], "·"])


def show(frame):
    image.set_data(frame[1])
    ax.set_title(f"step {frame[0]}")


with tempfile.TemporaryDirectory() as folder:
    FuncAnimation(figure, show, frames + frames[-1:] * 8).save(f"{folder}/attention.gif", PillowWriter(fps=6))
    plt.close(figure)
    display(Image(f"{folder}/attention.gif"))

# %% [markdown] lang="en"
# Rows are what is written, columns what is read. The year is copied from the end of the source, the month looked up, the
# day taken from the beginning: an alignment with a jump in it, found from pairs alone.
#
# ## Every score function on one example
#
# How the query meets a position can be computed in many ways. `attention_type` chooses one:
#
# | `attention_type` | score of query $s$ and position $h_j$ | from |
# | --- | --- | --- |
# | `additive` | $v^\top \tanh(W s + U h_j + b)$ | Bahdanau et al., 2015 |
# | `concat` | $v^\top \tanh(W [s; h_j])$ | Luong et al., 2015 |
# | `general` | $s^\top W h_j$ | Luong et al., 2015 |
# | `dot` | $s^\top h_j$ | Luong et al., 2015 |
# | `scaled_dot` | $s^\top h_j / \sqrt{d}$ | Vaswani et al., 2017 |
# | `multi_head` | scaled products in several subspaces (drawn: the mean of four) | Vaswani et al., 2017 |
# | `location` | additive, and sees by a convolution where it looked the step before | Chorowski et al., 2015 |
# | `local` | general, times a Gaussian around a predicted position | Luong et al., 2015 |
#
# The same task, the same seed, the same number of steps for each of them:

# %% [markdown] lang="zh"
# 行是写出的内容，列是读到的内容。年份从原文末尾抄来，月份经过换算，日取自开头：这个带有跳跃的对齐完全是从成对的数据中
# 学到的。
#
# ## 同一个例子上的各种打分函数
#
# 查询与位置如何匹配，有许多算法，用 `attention_type` 选择：
#
# | `attention_type` | 查询 $s$ 与位置 $h_j$ 的得分 | 出处 |
# | --- | --- | --- |
# | `additive` | $v^\top \tanh(W s + U h_j + b)$ | Bahdanau 等，2015 |
# | `concat` | $v^\top \tanh(W [s; h_j])$ | Luong 等，2015 |
# | `general` | $s^\top W h_j$ | Luong 等，2015 |
# | `dot` | $s^\top h_j$ | Luong 等，2015 |
# | `scaled_dot` | $s^\top h_j / \sqrt{d}$ | Vaswani 等，2017 |
# | `multi_head` | 在若干子空间中做缩放点积（图中为四个头的平均） | Vaswani 等，2017 |
# | `location` | 加性打分，并通过卷积看到上一步看向了哪里 | Chorowski 等，2015 |
# | `local` | general 打分乘以一个以预测位置为中心的高斯函数 | Luong 等，2015 |
#
# 每一种都用同样的任务、同样的随机种子和同样的步数：

# %%
TYPES = ("additive", "concat", "general", "dot", "scaled_dot", "multi_head", "location", "local")
learned = {}
print(f"{'attention_type':15} {'loss':>6} {'sharpness':>10}")
for attention_type in TYPES:
    trained, loss = train(attention_type)
    weights = learned[attention_type] = look(trained)
    print(f"{attention_type:15} {loss:6.3f} {weights.max(dim=-1).values.mean():10.2f}")

# %% figure="Eight heat maps of the same date, one for each score function."
figure = plt.figure(figsize=(8.4, 4.8), layout="constrained")
for index, (attention_type, weights) in enumerate(learned.items()):
    ax = figure.add_subplot(2, 4, index + 1)
    ax.imshow(weights, vmin=0, vmax=1, aspect="equal")
    ax.set_title(attention_type)
    ax.set_xticks(range(11), [*source_tokens[:-1], "·"], fontsize=7)
    ax.set_yticks(range(11), [*target_tokens[:-1], "·"], fontsize=7)
plt.show()

# %% [markdown] lang="en"
# Sharpness is the mean of the greatest weight of each row. `scaled_dot` has not got there: its scores begin small, so its
# weights begin even, and it needs more steps. Read the other pictures with care: these models write much the same, yet
# they do not look at the same places. A state of a bidirectional encoder knows its neighbours, so to look beside a
# character can serve as well as to look at it. [Chapter 7](explanation.md) comes back to this. And 120 steps rank
# nothing: which score is best on your data, your development set says.
#
# For a picture of one of your own models, there is a function that knows fonts and long texts:

# %% [markdown] lang="zh"
# “sharpness”（锐度）是每行最大权重的平均值。`scaled_dot` 还没有学会：它的得分起初很小，权重因而很平均，需要更多的步数。看其余
# 的图时要小心：这些模型写出的内容差不多，看的地方却不尽相同。双向编码器的一个状态也知道
# 它的邻居，所以看一个字符的旁边，可能和看它本身一样有用。[第 7 章](explanation.md)会再谈这一点。120 步也不能排出名次：
# 哪种打分最适合你的数据，要由你的开发集来说。
#
# 要为自己的模型画图，可以用一个懂得字体和长文本的函数：

# %% figure="The heat map of the date as the package draws it."
plot_alignment(learned["general"], source_tokens, target_tokens, title="general")
