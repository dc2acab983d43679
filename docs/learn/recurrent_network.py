# %% [markdown] lang="en"
# # 1. The recurrent network
#
# A text has no fixed length, and what a word means depends on the words before it. A recurrent network answers both
# with one idea: it reads one token at a time and keeps a **state**, a vector of fixed size, in which it notes what it
# will need later. The same step, with the same weights, is taken at every token.

# %% [markdown] lang="zh"
# # 1. 循环网络
#
# 文本没有固定的长度，一个词的含义又取决于它前面的词。循环网络用一个想法同时解决这两个问题：它一次只读一个词元，
# 并维护一个**状态**——一个大小固定的向量，用来记下以后要用到的东西。每读一个词元，都用同一组权重走同样的一步。

# %%
import inspect
import random

import matplotlib.pyplot as plt
import torch

from attention_rnn import AttentionRnnConfig, AttentionRnnForCausalLM
from attention_rnn.models.cells import TanhRNNCell
from attention_rnn.models.recurrence import recurrence

# %% [markdown] lang="en"
# ## The equation and its code
#
# The plain network of Elman (1990) makes the state $h_t$ of the token $x_t$ and of the state before it:
#
# $$h_t = \tanh(W x_t + b_W + U h_{t-1} + b_U)$$
#
# | equation | code | shape |
# | --- | --- | --- |
# | $W x_t + b_W$ | `cell.input_products(x)`, for all tokens at once, since it needs no state | (batch, time, hidden) |
# | $U h_{t-1} + b_U$ | `self.hidden_products(state, …)`, token by token | (batch, hidden) |
# | $\tanh(\ldots)$ | `torch.tanh`: keeps every number of the state between -1 and 1 | (batch, hidden) |
#
# This is the step as the package has it; everything else that a recurrent layer does is a loop around it:

# %% [markdown] lang="zh"
# ## 公式与代码
#
# Elman (1990) 的简单循环网络由词元 $x_t$ 和前一个状态算出新的状态 $h_t$：
#
# $$h_t = \tanh(W x_t + b_W + U h_{t-1} + b_U)$$
#
# | 公式 | 代码 | 形状 |
# | --- | --- | --- |
# | $W x_t + b_W$ | `cell.input_products(x)`，不需要状态，所以对所有词元一次算完 | (batch, time, hidden) |
# | $U h_{t-1} + b_U$ | `self.hidden_products(state, …)`，逐个词元计算 | (batch, hidden) |
# | $\tanh(\ldots)$ | `torch.tanh`：使状态的每个数都在 -1 与 1 之间 | (batch, hidden) |
#
# 下面就是本软件包中的这一步；循环层所做的其余一切，只是围绕它的一个循环：

# %%
print(inspect.getsource(TanhRNNCell.forward))

# %% [markdown] lang="en"
# The loop, written out. It must give what the package's fast `recurrence` gives, and what `torch.nn.RNN` gives with the
# same weights:

# %% [markdown] lang="zh"
# 把循环写出来。它的结果应当与本软件包的快速实现 `recurrence` 一致，也应当与权重相同的 `torch.nn.RNN` 一致：

# %%
torch.manual_seed(0)
config = AttentionRnnConfig(cell_type="rnn_tanh", hidden_size=6)
cell = TanhRNNCell(config, input_size=4)
tokens = torch.randn(2, 5, 4)  # (batch, time, input)

products = cell.input_products(tokens)
state, states = torch.zeros(2, 6), []
for step in range(5):
    state = cell(products[:, step], state)
    states.append(state)
by_hand = torch.stack(states, dim=1)

fast, final_state = recurrence(cell, tokens, None, torch.zeros(2, 6))
of_torch = torch.nn.RNN(4, 6, batch_first=True)
of_torch.weight_ih_l0, of_torch.bias_ih_l0 = cell.input_to_hidden.weight, cell.input_to_hidden.bias
of_torch.weight_hh_l0, of_torch.bias_hh_l0 = cell.hidden_to_hidden.weight, cell.hidden_to_hidden.bias

print(f"largest difference to recurrence:   {(by_hand - fast).abs().max():.0e}")
print(f"largest difference to torch.nn.RNN: {(by_hand - of_torch(tokens)[0]).abs().max():.0e}")

# %% [markdown] lang="en"
# ## What does it note in its state?
#
# Nobody tells it. We train a language model with 16 numbers of state to guess the next bracket in strings like the one
# below. They open at most four brackets, so whoever knows how many are open knows when `)` cannot come, and when it must.
# The loss is the mean of $-\ln p(\text{next bracket})$; nothing in it speaks of counting.

# %% [markdown] lang="zh"
# ## 状态里记了什么？
#
# 没有人告诉它该记什么。我们训练一个状态只有 16 个数的语言模型，让它猜下一个括号。这些字符串最多同时打开四个括号，
# 所以谁知道现在有几个括号开着，谁就知道什么时候不可能出现 `)`，什么时候必须出现。损失是
# $-\ln p(\text{下一个括号})$ 的平均值；其中没有一个字提到计数。

# %%
rng = random.Random(0)


def brackets(length):
    text, depth = "", 0
    for _ in range(length):
        opens = depth == 0 or (depth < 4 and rng.random() < 0.5)
        text += "(" if opens else ")"
        depth += 1 if opens else -1
    return text


def encode(texts):  # 1 begins a text, 4 and 5 are the brackets
    return torch.tensor([[1, *(4 + "()".index(bracket) for bracket in text)] for text in texts])


torch.manual_seed(0)
model = AttentionRnnForCausalLM(
    AttentionRnnConfig(
        cell_type="rnn_tanh",
        hidden_size=16,
        decoder_layers=1,
        attention_type=None,
        is_encoder_decoder=False,
        vocab_size=6,
        embedding_size=8,
        embedding_dropout=0.0,
        hidden_dropout=0.0,
        readout_dropout=0.0,
    )
)
optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
print("a string:", brackets(40))
for step in range(300):
    batch = encode([brackets(40) for _ in range(64)])
    loss = model(input_ids=batch, labels=batch).loss
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    if step in (0, 50, 299):
        print(f"step {step:3}: loss {loss.item():.3f} nats a bracket")

# %% [markdown] lang="en"
# Now we look for the depth in its state. A linear map from the 16 numbers to the depth is fitted on some strings and
# asked about others:

# %% [markdown] lang="zh"
# 现在在状态里寻找括号的深度：用一部分字符串拟合一个从 16 个数到深度的线性映射，再拿另一部分字符串来检验：

# %%
texts = [brackets(40) for _ in range(60)]
with torch.no_grad():
    states = model.eval()(input_ids=encode(texts), output_hidden_states=True).hidden_states[-1][:, 1:]
signs = torch.tensor([[1.0 if bracket == "(" else -1.0 for bracket in text] for text in texts])
depth = signs.cumsum(dim=1)

features = torch.cat([states, torch.ones(60, 40, 1)], dim=-1)
probe = torch.linalg.lstsq(features[:40].flatten(0, 1), depth[:40].flatten()[:, None]).solution
read = (features[40:] @ probe)[..., 0]
right = (read.round() == depth[40:]).float().mean()
correlation = torch.corrcoef(torch.cat([states.flatten(0, 1).T, depth.flatten()[None]]))[-1, :-1]
unit = int(correlation.abs().argmax())
print(f"depth read off the state, rounded: right at {100 * right:.1f} % of the brackets of other strings")
print(f"the best single number of the state: number {unit}, correlation {correlation[unit]:.2f}")

# %% figure="Above: the depth of nesting along a string, and the depth read off the state, which follow each other. Below: the sixteen numbers of the state, bracket by bracket."
figure, (above, below) = plt.subplots(2, 1, figsize=(7, 3.8), sharex=True, height_ratios=[1, 1.2], layout="constrained")
above.step(range(40), depth[40], where="mid", color="0.6", label="open brackets")
above.plot(range(40), read[0], "o", markersize=3, label="read off the state")
above.set_ylabel("depth")
above.legend(loc="upper right", ncols=2, bbox_to_anchor=(1, 1.25))
image = below.imshow(states[40].T, cmap="RdBu", vmin=-1, vmax=1)
below.set(xticks=range(40), xticklabels=texts[40], ylabel="number of the state")
figure.colorbar(image, ax=below, label="value")
plt.show()

# %% [markdown] lang="en"
# The network has invented a counter, because a counter lowers the loss. That is what a state is: not a recording of the
# text, but what the task has made worth keeping. Two limits follow, and the next chapters are about them:
#
# - what is worth keeping must be **learned**, by a gradient that has to travel back through every step
#   ([chapter 2](vanishing_gradients.md));
# - and it must **fit**: 16 numbers hold a depth, but not a paragraph ([chapter 5](length.md)).

# %% [markdown] lang="zh"
# 网络自己发明了一个计数器，因为计数能降低损失。这就是状态的含义：它不是文本的录音，而是任务认为值得保留的东西。
# 由此带来两个限制，后面几章就讲它们：
#
# - 该保留什么必须**学出来**，而学习所依靠的梯度要穿过每一步往回走（[第 2 章](vanishing_gradients.md)）；
# - 要记的东西必须**装得下**：16 个数装得下深度，却装不下一段话（[第 5 章](length.md)）。
