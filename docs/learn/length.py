# %% [markdown] lang="en"
# # 5. Why attention helps: long inputs
#
# Without attention the decoder knows the source by one vector, however long the source was (Sutskever, Vinyals and Le,
# 2014). With it, the memory grows with the source. So the difference must grow with the length, and it does.

# %% [markdown] lang="zh"
# # 5. 注意力为什么有用：长输入
#
# 没有注意力时，无论原文多长，解码器都只能通过一个向量了解它（Sutskever、Vinyals 和 Le，2014）。有了注意力，记忆随原文
# 一起增长。所以差别应当随长度变大，事实也正是如此。

# %%
import string

import matplotlib.pyplot as plt
import torch

from attention_rnn import AttentionRnnConfig, AttentionRnnForConditionalGeneration

# %% [markdown] lang="en"
# ## An experiment without luck
#
# A cipher: every one of ten letters has a partner, and the model is to write the partners of a random string. Nothing in
# such a string can be guessed from the rest of it, so the model must either keep every letter or look it up. Both models
# train on the same strings of 1 to 20 letters, for the same number of steps. They are then asked for strings of up to 30,
# longer than any they have seen.

# %% [markdown] lang="zh"
# ## 一个不靠运气的实验
#
# 一种密码：十个字母各有一个搭档，模型要写出随机字符串中每个字母的搭档。这种字符串的任何部分都无法从其余部分猜出，所以
# 模型要么记住每个字母，要么回头去查。两个模型用同样的 1 到 20 个字母的字符串训练同样的步数，然后用最长 30 个字母的
# 字符串来考它们——比见过的都长。

# %%
LETTERS = string.ascii_lowercase[:10]  # ids 4 to 13
END = 2


def draw(number, length):
    ids = torch.randint(4, 14, (number, length))
    end = torch.full((number, 1), END)
    return torch.cat([ids, end], dim=1), torch.cat([17 - ids, end], dim=1)


def train(attention_type, steps=350):
    torch.manual_seed(0)
    config = AttentionRnnConfig(
        vocab_size=14,
        embedding_size=16,
        hidden_size=64,
        attention_type=attention_type,
        embedding_dropout=0.0,
        hidden_dropout=0.0,
        readout_dropout=0.0,
    )
    model = AttentionRnnForConditionalGeneration(config)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.005, total_steps=steps)
    for _ in range(steps):
        ids, labels = draw(32, int(torch.randint(1, 21, ())))
        loss = model(input_ids=ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model.eval()


models = {"without attention": train(None), "with attention": train("general")}
for name, model in models.items():
    print(f"{name:17}: {model.num_parameters():,} parameters")

# %% [markdown] lang="en"
# Asked letter by letter, by greedy decoding; a letter is right if it stands at its place:

# %% [markdown] lang="zh"
# 用贪心解码逐个字母地考；字母出现在它应在的位置上才算对：

# %%
lengths = [2, 4, 6, 8, 10, 14, 18, 22, 26, 30]
right = {name: [] for name in models}
for length in lengths:
    torch.manual_seed(length)
    ids, labels = draw(60, length)
    for name, model in models.items():
        written = model.generate(ids, max_new_tokens=length + 1)[:, 1:]
        written = torch.nn.functional.pad(written, (0, length + 1 - written.shape[1]))
        right[name].append((written == labels)[:, :length].float().mean().item())
print("length             " + "".join(f"{length:5}" for length in lengths))
for name, shares in right.items():
    print(f"{name:19}" + "".join(f"{100 * share:5.0f}" for share in shares))

torch.manual_seed(18)
ids, labels = draw(1, 18)


def spell(tokens):
    return "".join(LETTERS[token - 4] for token in tokens.tolist() if token >= 4)


print(f"\n{'source':19}{spell(ids[0])}\n{'wanted':19}{spell(labels[0])}")
for name, model in models.items():
    print(f"{name:19}{spell(model.generate(ids, max_new_tokens=19)[0, 1:])}")

# %% figure="Share of right letters by length. Without attention it falls from about four letters on; with attention it stays near all up to the longest strings of the training and falls slowly beyond."
figure, axes = plt.subplots(layout="constrained")
for name, shares in right.items():
    axes.plot(lengths, [100 * share for share in shares], "o-", markersize=3, label=name)
axes.axhline(10, color="0.6", linestyle=":", label="chance")
axes.axvspan(20, 31, color="0.95")
axes.text(20.3, 72, "longer than in training", color="0.4", va="top")
axes.set(xlabel="letters in the source", ylabel="letters right, %", ylim=(0, 103), xlim=(1, 31))
axes.legend(loc="center right")
plt.show()

# %% [markdown] lang="en"
# A bigger state or a longer training moves the left curve to the right, and does not change its kind. And the right curve
# has an end too: beyond the lengths of its training the model with attention must find its place in the source by
# itself, and it loses count. Attention widens what is reachable; it promises nothing about lengths that nobody has shown
# it.
#
# ## On real data
#
# The same on two tasks of [the benchmarks](../results/quality.md), with their published data and tuned recipes. For the
# subject lines of e-mails a third thing counts, which attention makes possible: to copy words of the source.
#
# ![Scores by source length with and without attention](../quality_by_length.png){ .figure }

# %% [markdown] lang="zh"
# 更大的状态或更长的训练会把左边的曲线往右推，却不会改变它的性质。右边的曲线也有尽头：超出训练过的长度，有注意力的模型必须
# 自己在原文中找到位置，它会数乱。注意力扩大了能够到达的范围；对于谁也没给它看过的长度，它什么也不保证。
#
# ## 真实数据
#
# 下面是[基准测试](../../results/quality.md)中两个任务的同样比较，用的是公开数据和调好的配方。写邮件主题行时还有一件事很要紧，
# 而它正是由注意力带来的：从原文中复制词语。
#
# ![有无注意力时得分随原文长度的变化](../../quality_by_length.png){ .figure }
