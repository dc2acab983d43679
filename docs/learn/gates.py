# %% [markdown] lang="en"
# # 3. LSTM and GRU: gates
#
# The plain network writes its whole state anew at every token, so whatever it wants to keep must survive a matrix and a
# tanh each time. A gated cell instead **adds** to its state, and gates, numbers between 0 and 1 that it computes itself,
# say how much is kept and how much comes in.

# %% [markdown] lang="zh"
# # 3. LSTM 与 GRU：门控
#
# 简单循环网络每读一个词元都要重写整个状态，所以想保留的东西每次都得熬过一个矩阵和一个 tanh。带门控的单元则是往状态里
# **加**东西：门是它自己算出的 0 到 1 之间的数，决定保留多少、放进多少。

# %%
import inspect

import matplotlib.pyplot as plt
import torch

from attention_rnn import AttentionRnnConfig, AttentionRnnForCausalLM, AttentionRnnForConditionalGeneration
from attention_rnn.models.cells import GRUCell, LSTMCell

# %% [markdown] lang="en"
# ## The gated recurrent unit
#
# Cho et al. (2014), with $x$ the token, $h$ the state before it, $\sigma$ the logistic function:
#
# | equation | in words |
# | --- | --- |
# | $r = \sigma(W_r x + U_r h + b_r)$ | **reset**: how much of the old state the proposal may see |
# | $z = \sigma(W_z x + U_z h + b_z)$ | **update**: how much of the old state stays |
# | $n = \tanh(W_n x + b_n + r \odot (U_n h + c_n))$ | the proposal |
# | $h' = (1 - z) \odot n + z \odot h$ | the next state, between proposal and old state |
#
# The code has these four lines in this order, behind the products of both matrices, which it makes for all gates at once:

# %% [markdown] lang="zh"
# ## 门控循环单元（GRU）
#
# Cho 等（2014），其中 $x$ 是词元，$h$ 是它之前的状态，$\sigma$ 是逻辑函数：
#
# | 公式 | 含义 |
# | --- | --- |
# | $r = \sigma(W_r x + U_r h + b_r)$ | **重置门**：候选值能看到多少旧状态 |
# | $z = \sigma(W_z x + U_z h + b_z)$ | **更新门**：旧状态留下多少 |
# | $n = \tanh(W_n x + b_n + r \odot (U_n h + c_n))$ | 候选值 |
# | $h' = (1 - z) \odot n + z \odot h$ | 新状态，介于候选值与旧状态之间 |
#
# 代码先为所有的门一次算出两个矩阵的乘积，随后就是依次对应的这四行：

# %%
print(inspect.getsource(GRUCell.forward))

# %% [markdown] lang="en"
# ## Long short-term memory
#
# Hochreiter and Schmidhuber (1997), with the forget gate of Gers et al. (2000), keep two vectors: the cell $c$, which is
# only ever scaled and added to, and the output $h$, which the rest of the network sees. $[i, f, g, o]$ are four products
# like those above:
#
# $$c' = \sigma(f) \odot c + \sigma(i) \odot \tanh(g) \qquad h' = \sigma(o) \odot \tanh(c')$$

# %% [markdown] lang="zh"
# ## 长短期记忆（LSTM）
#
# Hochreiter 和 Schmidhuber（1997）以及 Gers 等（2000）的遗忘门保留两个向量：细胞 $c$ 只会被缩放和相加；输出 $h$ 则是网络
# 其余部分所看到的。$[i, f, g, o]$ 是与上面类似的四个乘积：
#
# $$c' = \sigma(f) \odot c + \sigma(i) \odot \tanh(g) \qquad h' = \sigma(o) \odot \tanh(c')$$

# %%
print(inspect.getsource(LSTMCell.forward))

# %% [markdown] lang="en"
# ## What it does for the gradient
#
# Going back one step along $c$ multiplies by the forget gate, and by nothing else. If the gate stays near 1, so does the
# factor. This is chapter 2's measurement again, without attention, for each cell as it is initialised here:

# %% [markdown] lang="zh"
# ## 对梯度的作用
#
# 沿着 $c$ 往回走一步，只乘以遗忘门，别无其他。门接近 1，因子也就接近 1。下面重做第 2 章的测量（没有注意力），
# 每种单元都按这里的方式初始化：


# %%
def gradient_by_position(cell_type, **fields):
    torch.manual_seed(0)
    config = AttentionRnnConfig(
        cell_type=cell_type,
        attention_type=None,
        vocab_size=50,
        embedding_size=64,
        hidden_size=64,
        decoder_layers=1,
        bidirectional=False,
        **fields,
    )
    model = AttentionRnnForConditionalGeneration(config).eval()
    embeddings = model.get_input_embeddings()(torch.randint(4, 50, (16, 200))).detach().requires_grad_()
    model(inputs_embeds=embeddings, labels=torch.randint(4, 50, (16, 10))).loss.backward()
    return 16 * embeddings.grad.norm(dim=-1).mean(dim=0)


gradients = {
    "tanh": gradient_by_position("rnn_tanh"),
    "GRU": gradient_by_position("gru"),
    "LSTM, forget gate biased by 0": gradient_by_position("lstm", forget_gate_bias=0.0),
    "LSTM, forget gate biased by 1": gradient_by_position("lstm"),
    "LSTM, forget gate biased by 3": gradient_by_position("lstm", forget_gate_bias=3.0),
}
for name, gradient in gradients.items():
    print(f"{name:30} {gradient[0]:.0e} at the first token, {gradient[-1]:.0e} at the last")

# %% figure="Gradient by position on a logarithmic scale for tanh, GRU and LSTM with three biases. The higher the bias of the forget gate, the less the line falls; with a bias of 3 it rises. The fresh GRU falls fastest."
figure, axes = plt.subplots(figsize=(7, 3.4), layout="constrained")
for name, gradient in gradients.items():
    axes.plot(gradient, label=name)
axes.set(yscale="log", ylim=(1e-16, 100), xlabel="position of the token in the source", ylabel="|dL/dx|")
figure.legend(loc="outside upper center", ncols=3)
plt.show()

# %% [markdown] lang="en"
# A surprise that is worth remembering: freshly made, the GRU and the LSTM without a bias lose the gradient *faster* than
# the tanh network. Their gates stand near one half, and half of a half of a half is soon nothing. Gates do not keep by
# themselves; they **can learn** to keep. That is why the forget gate's bias starts at 1 here (Jozefowicz et al., 2015).
# With a bias of 3 nearly everything is kept from the start, and the gradient even grows on its way back: more is not
# always better.
#
# ## Learning to keep
#
# A stream of 16 letters, of which `!` marks one; at the end, `?` asks for it. Nothing else can be guessed better than by
# chance, one in eight:

# %% [markdown] lang="zh"
# 有一点出人意料，值得记住：刚初始化时，GRU 和没有偏置的 LSTM 丢失梯度比 tanh 网络还*快*。它们的门在二分之一附近，
# 而一半的一半的一半很快就所剩无几。门本身并不保留什么，它们只是**能够学会**保留。所以这里遗忘门的偏置从 1 开始
# （Jozefowicz 等，2015）。偏置为 3 时，一开始几乎什么都保留，梯度在回程中甚至会变大：并非越多越好。
#
# ## 学会保留
#
# 一串 16 个字母，其中一个由 `!` 标出；最后的 `?` 要求说出它。除此以外只能瞎猜，猜中的机会是八分之一：

# %%
SYMBOLS = "    !?abcdefgh"  # by their ids; 0 to 3 are the special tokens


def draw(number):
    ids = torch.randint(6, 14, (number, 16))
    rows, marked = torch.arange(number), torch.randint(0, 6, (number,))
    ids[rows, marked] = SYMBOLS.index("!")
    answers = ids[rows, marked + 1]
    ids = torch.cat([ids, torch.full((number, 1), SYMBOLS.index("?")), answers[:, None]], dim=1)
    labels = torch.full_like(ids, -100)  # learn the answer alone
    labels[:, -1] = answers
    return ids, labels


models, curves = {}, {}
for cell_type in ("rnn_tanh", "gru", "lstm"):
    torch.manual_seed(1)
    config = AttentionRnnConfig(
        cell_type=cell_type,
        hidden_size=32,
        decoder_layers=1,
        attention_type=None,
        is_encoder_decoder=False,
        vocab_size=14,
        embedding_size=16,
        embedding_dropout=0.0,
        hidden_dropout=0.0,
        readout_dropout=0.0,
    )
    model = models[cell_type] = AttentionRnnForCausalLM(config)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    curves[cell_type] = []
    for _ in range(250):
        ids, labels = draw(64)
        outputs = model(input_ids=ids, labels=labels)
        optimizer.zero_grad()
        outputs.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        curves[cell_type].append((outputs.logits[:, -2].argmax(dim=-1) == ids[:, -1]).float().mean())
    print(f"{cell_type:8}: {100 * sum(curves[cell_type][-50:]) / 50:.0f} % right over the last 50 steps")

# %% figure="Share of right answers by step. LSTM and GRU climb to all right, the tanh network stays at one in eight."
figure, axes = plt.subplots(layout="constrained")
for cell_type, curve in curves.items():
    axes.plot(torch.stack(curve).unfold(0, 10, 1).mean(dim=-1), label=cell_type)
axes.axhline(1 / 8, color="0.6", linestyle=":", label="chance")
axes.set(xlabel="step of the training", ylabel="right answers")
axes.legend()
plt.show()

# %% [markdown] lang="en"
# ## Watching the gates
#
# A gate can be looked at while the network reads. The GRU's update gate $z$, computed from the model's own weights; blue
# is 1, *keep what is there*. The lower picture is what the gates leave: how much each unit's state changes.

# %% [markdown] lang="zh"
# ## 观察门
#
# 网络阅读时可以观察它的门。下面用模型自己的权重算出 GRU 的更新门 $z$；蓝色为 1，表示*保留已有的内容*。下图是门的效果：
# 每个单元的状态改变了多少。

# %%
model = models["gru"].eval()
ids, _ = draw(1)
with torch.no_grad():
    embeddings, states = model(input_ids=ids[:, :-1], output_hidden_states=True).hidden_states
    cell = next(module for module in model.modules() if isinstance(module, GRUCell))
    before = torch.cat([torch.zeros(1, 1, 32), states[:, :-1]], dim=1)
    _, of_input, _ = cell.input_products(embeddings).chunk(3, dim=-1)
    _, of_state, _ = cell.hidden_products(before, None).chunk(3, dim=-1)
    update = torch.sigmoid(of_input + of_state)[0]
    change = (states - before)[0].abs()
    distance = change / (1 - update)  # |n - h|, since h' - h = (1 - z)(n - h)
text = "".join(SYMBOLS[token] for token in ids[0])
marked = text.index("!")
later = slice(marked + 3, 16)
print(f"the stream {text[:-1]}, and the answer {text[-1]}")
print(f"mean update gate: {update[marked + 1].mean():.2f} at the marked letter, {update[later].mean():.2f} later")
print(
    f"mean change of the state: {change[marked + 1].mean():.2f} at the marked letter, {change[later].mean():.2f} later"
)
print(
    f"mean distance |n - h|: {distance[marked + 1].mean():.2f} at the marked letter, {distance[later].mean():.2f} later"
)

# %% figure="Two heat maps, units by letters. Above, the update gate; below, the change of the state, which is large at the marked letter and small afterwards."
figure, axes = plt.subplots(2, 1, figsize=(7, 4.2), sharex=True, layout="constrained")
order = change[marked + 1].argsort(descending=True)  # the units that the marked letter changes most come first
for ax, values, label in zip(axes, (update, change), ("update gate z", "|change of h|"), strict=True):
    image = ax.imshow(values[:, order].T, vmin=0, vmax=1)
    ax.set(ylabel="unit", xticks=range(17), xticklabels=text[:-1])
    figure.colorbar(image, ax=ax, label=label)
plt.show()

# %% [markdown] lang="en"
# At the marked letter the gates open and the state is written anew; from then on it hardly moves until the question. Look
# at the numbers before believing the simple story, though: the gates are far from shut later on. By
# $h' - h = (1 - z) \odot (n - h)$ a unit also keeps its value when the proposal $n$ says it again, and this network does
# both. What has been learned is to carry the letter; the gates are half of how.
#
# It still has a price. The state is of fixed size, and everything that is to be known later must be carried at once. What
# if the network could look back instead? That is [attention](attention.md).

# %% [markdown] lang="zh"
# 在被标记的字母处，门打开，状态被重写；从那以后直到提问，状态几乎不动。不过，先看数字，再相信这个简单的故事：后来门远没有
# 关上。由 $h' - h = (1 - z) \odot (n - h)$ 可知，候选值 $n$ 若与原值相同，单元同样保持不变，而这个网络两样都用上了。
# 它学会的是把字母带着走，门只是其中一半的办法。
#
# 这仍有代价：状态大小固定，以后要知道的一切都得同时带着走。如果网络能够回头看呢？那就是[注意力](attention.md)。
