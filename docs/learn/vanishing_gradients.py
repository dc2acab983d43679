# %% [markdown] lang="en"
# # 2. Back-propagation through time
#
# To learn what to keep, the network must know how a token that it read long ago has changed the loss of today. Unrolled
# over the text, a recurrent network is a very deep network whose layers share their weights, so ordinary
# back-propagation answers that. And the depth is where the trouble begins.

# %% [markdown] lang="zh"
# # 2. 沿时间反向传播
#
# 要学会该保留什么，网络必须知道很久以前读到的一个词元怎样影响了今天的损失。沿着文本展开后，循环网络就是一个
# 各层共享权重的极深的网络，所以普通的反向传播就能回答这个问题。而麻烦也正是从这个深度开始的。

# %%
import matplotlib.pyplot as plt
import torch

from attention_rnn import AttentionRnnConfig, AttentionRnnForCausalLM, AttentionRnnForConditionalGeneration
from attention_rnn.models.cells import TanhRNNCell
from attention_rnn.models.recurrence import recurrence

# %% [markdown] lang="en"
# ## The equation
#
# With $h_t = \tanh(a_t)$ and $a_t = W x_t + U h_{t-1} + b$, the chain rule goes back one step at a time. Let
# $\delta_t = \partial L / \partial a_t$, and let the loss look at the last state alone:
#
# $$\delta_{t} = (1 - h_t^2) \odot U^\top \delta_{t+1} \qquad \frac{\partial L}{\partial x_t} = W^\top \delta_t$$
#
# That is all of back-propagation through time. Six lines of it agree with autograd:

# %% [markdown] lang="zh"
# ## 公式
#
# 设 $h_t = \tanh(a_t)$，$a_t = W x_t + U h_{t-1} + b$，链式法则每次往回走一步。记
# $\delta_t = \partial L / \partial a_t$，并设损失只看最后一个状态：
#
# $$\delta_{t} = (1 - h_t^2) \odot U^\top \delta_{t+1} \qquad \frac{\partial L}{\partial x_t} = W^\top \delta_t$$
#
# 沿时间反向传播（BPTT）的全部内容就在这里。六行代码的结果与 autograd 一致：

# %%
torch.manual_seed(0)
cell = TanhRNNCell(AttentionRnnConfig(cell_type="rnn_tanh", hidden_size=6), input_size=4)
tokens = torch.randn(1, 20, 4, requires_grad=True)
states, _ = recurrence(cell, tokens, None, torch.zeros(1, 6))
loss = states[0, -1].sum()
(of_autograd,) = torch.autograd.grad(loss, tokens)

input_matrix, recurrent_matrix = cell.input_to_hidden.weight, cell.hidden_to_hidden.weight  # W and U
of_state, by_hand = torch.ones(6), torch.zeros(20, 4)
for step in reversed(range(20)):
    delta = (1 - states[0, step] ** 2) * of_state
    by_hand[step] = delta @ input_matrix
    of_state = delta @ recurrent_matrix
print(f"largest difference to autograd: {(by_hand - of_autograd[0]).abs().max():.0e}")

# %% [markdown] lang="en"
# ## Vanishing and exploding
#
# Going back over $n$ tokens multiplies by $U^\top$ and by $1 - h_t^2 \le 1$, $n$ times. A factor that is always a little
# below one leaves nothing, one that is a little above leaves no bound (Bengio, Simard and Frasconi, 1994). Here is a
# tanh network of 64 units whose recurrent matrix is orthogonal, times a gain:

# %% [markdown] lang="zh"
# ## 消失与爆炸
#
# 往回走 $n$ 个词元，就要乘 $n$ 次 $U^\top$ 和 $1 - h_t^2 \le 1$。因子若总是略小于一，最后什么也不剩；若总是略大于一，
# 就没有上界（Bengio、Simard 和 Frasconi，1994）。下面是一个有 64 个单元的 tanh 网络，循环矩阵为正交矩阵乘以一个增益：

# %%
positions = range(200)
gradients = {}
for gain in (0.9, 1.2, 1.5, 2.0):
    torch.manual_seed(0)
    cell = TanhRNNCell(AttentionRnnConfig(cell_type="rnn_tanh", hidden_size=64), input_size=64)
    with torch.no_grad():
        torch.nn.init.orthogonal_(cell.hidden_to_hidden.weight, gain)
        torch.nn.init.zeros_(cell.hidden_to_hidden.bias)
        torch.nn.init.zeros_(cell.input_to_hidden.bias)
    tokens = (0.5 * torch.randn(16, 200, 64)).requires_grad_()
    _, final_state = recurrence(cell, tokens, None, torch.zeros(16, 64))
    (final_state * torch.randn(16, 64)).sum().backward()
    gradients[gain] = tokens.grad.norm(dim=-1).mean(dim=0)
    print(f"gain {gain}: {gradients[gain][0]:.0e} at the first token, {gradients[gain][-1]:.0e} at the last")

# %% figure="Gradient by position on a logarithmic scale, one line for each gain. Straight lines: 0.9 and 1.2 fall towards the first token, 1.5 and 2.0 rise."
figure, axes = plt.subplots(layout="constrained")
for gain, gradient in gradients.items():
    axes.plot(positions, gradient, label=f"gain {gain}")
axes.set(yscale="log", xlabel="position of the token (the loss is at the right end)", ylabel="|dL/dx|")
axes.legend()
plt.show()

# %% [markdown] lang="en"
# The lines are straight on a logarithmic scale: the change is exponential in the distance.
#
# ## Against explosion: clipping
#
# An exploding gradient is easy to see and easy to cure. If the norm of the gradient is above a limit, scale it down to
# the limit: the direction stays, the step is short (Pascanu, Mikolov and Bengio, 2013). Two trainings that are equal up
# to that line, with rectified units, which have no bound:

# %% [markdown] lang="zh"
# 在对数坐标下这些线是直的：变化随距离呈指数关系。
#
# ## 对付爆炸：梯度裁剪
#
# 梯度爆炸容易发现，也容易医治：梯度的范数若超过上限，就按比例缩小到上限，方向不变，步子变短（Pascanu、Mikolov 和
# Bengio，2013）。下面两次训练除了这一行以外完全相同，用的是没有上界的修正线性单元：

# %%
pattern = torch.tensor([4, 4, 5, 4, 5, 5] * 10)
losses, norms = {}, {}
for limit in (float("inf"), 1.0):
    torch.manual_seed(0)
    model = AttentionRnnForCausalLM(
        AttentionRnnConfig(
            cell_type="rnn_relu",
            hidden_size=32,
            decoder_layers=1,
            attention_type=None,
            is_encoder_decoder=False,
            vocab_size=6,
            embedding_size=8,
        )
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses[limit], norms[limit] = [], []
    for _ in range(100):
        batch = torch.stack([pattern.roll(int(shift)) for shift in torch.randint(6, (16,))])
        loss = model(input_ids=batch, labels=batch).loss
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), limit)  # the line
        optimizer.step()
        losses[limit].append(loss.item())
        norms[limit].append(norm.item())
    finite = sum(torch.tensor(losses[limit]).isfinite().tolist())
    largest = max(norm for norm in norms[limit] if norm < float("inf"))
    print(
        f"limit {limit}: {finite} of 100 steps with a finite loss, the last one {losses[limit][finite - 1]:.2f}; "
        f"largest norm of the gradient {largest:.0e}"
    )

# %% [markdown] lang="en"
# The trainers of this package clip at 1 (`--max_grad_norm`), and stop or skip a step whose loss is not finite.
#
# ## Against vanishing: a shorter way
#
# A gradient that is gone cannot be scaled up. It needs another way back. This is the measurement that this package is
# about: an encoder reads 200 random tokens, a decoder writes ten, and we look at how much each of the 200 can still
# change the loss. **Without attention**, the decoder knows the source by the encoder's last state alone. **With
# attention** it looks at every state directly, so that every token is a few steps away from the loss:

# %% [markdown] lang="zh"
# 本软件包的训练器默认以 1 为上限裁剪（`--max_grad_norm`），并且在损失不是有限值时停下或跳过那一步。
#
# ## 对付消失：一条更短的路
#
# 已经消失的梯度无法再放大，它需要另一条回去的路。下面的测量正是本软件包的主题：编码器读 200 个随机词元，解码器写
# 10 个，我们看这 200 个词元各自还能在多大程度上影响损失。**没有注意力**时，解码器只能通过编码器的最后一个状态了解
# 原文；**有注意力**时，它直接看每一个状态，于是每个词元离损失都只有几步：


# %%
def gradient_by_position(attention_type, cell_type="rnn_tanh", **fields):
    torch.manual_seed(0)
    config = AttentionRnnConfig(
        cell_type=cell_type,
        attention_type=attention_type,
        vocab_size=50,
        embedding_size=64,
        hidden_size=64,
        decoder_layers=1,
        bidirectional=False,  # else the first token would be near the end of the backward reader
        **fields,
    )
    model = AttentionRnnForConditionalGeneration(config).eval()
    embeddings = model.get_input_embeddings()(torch.randint(4, 50, (16, 200))).detach().requires_grad_()
    model(inputs_embeds=embeddings, labels=torch.randint(4, 50, (16, 10))).loss.backward()
    return 16 * embeddings.grad.norm(dim=-1).mean(dim=0)  # the loss is the mean over 16 examples


without, with_attention = gradient_by_position(None), gradient_by_position("additive")
for name, gradient in (("without attention", without), ("with attention", with_attention)):
    print(
        f"{name:17}: {gradient[0]:.0e} at the first token, {gradient[-1]:.0e} at the last, least {gradient.min():.0e}"
    )

# %% figure="Gradient by position on a logarithmic scale. Without attention it falls by seven orders of magnitude from the last token to the first; with attention it is level."
figure, axes = plt.subplots(layout="constrained")
axes.plot(positions, without, label="tanh, without attention")
axes.plot(positions, with_attention, label="tanh, with attention")
axes.set(yscale="log", xlabel="position of the token in the source", ylabel="|dL/dx|")
axes.legend()
plt.show()

# %% [markdown] lang="en"
# Both are freshly initialised: this is what the first steps of a training have to work with. Without attention the first
# token is out of reach of the learning, not because it does not matter but because nothing of it arrives. The recurrent
# matrices here start orthogonal, the package's default, which is kind to the gradient. As torch's own modules start
# (uniform), less is left:

# %% [markdown] lang="zh"
# 两个模型都刚刚初始化：训练最初的几步能用的就是这些。没有注意力时，第一个词元处在学习够不着的地方——不是因为它不重要，
# 而是因为关于它的信号一点也传不回来。这里的循环矩阵初始为正交矩阵（本软件包的默认值），这对梯度是友好的。若按 torch
# 自带模块的方式（均匀分布）初始化，剩下的更少：

# %%
for attention_type in (None, "additive"):
    gradient = gradient_by_position(attention_type, recurrent_initialization="uniform")
    print(f"uniform, attention {attention_type}: {gradient[0]:.0e} at the first token, {gradient[-1]:.0e} at the last")

# %% [markdown] lang="en"
# A 0 means smaller than single precision can say. Attention is one shorter way. The other one lies inside the cell, and
# is the older of the two: [gates](gates.md).

# %% [markdown] lang="zh"
# 0 表示小到单精度无法表示。注意力是一条更短的路。另一条路在单元内部，而且更早出现：[门控](gates.md)。
