# %% [markdown] lang="en"
# # 7. What attention does not tell
#
# A heat map looks like a reason. It is a number that the model has used on its way, and whether it is *why* the model
# answered so is another question, which has been debated:
#
# - Jain and Wallace (2019), *Attention is not explanation*: in recurrent classifiers the weights hardly agree with what
#   gradients and erasure call important, and quite other weights often give the same answer.
# - Wiegreffe and Pinter (2019), *Attention is not not explanation*: it depends on what is meant by explanation; weights
#   learned with the model are not arbitrary, and tests must leave the model the freedom that it really has.
#
# We do not settle this. We make the tests, on two small models of our own, side by side.

# %% [markdown] lang="zh"
# # 7. 注意力没有告诉我们什么
#
# 热图看上去像是理由。但它只是模型计算途中用到的一个数；它是不是模型这样回答的*原因*，是另一个问题，对此有过争论：
#
# - Jain 和 Wallace（2019），*Attention is not explanation*：在循环网络分类器中，权重与梯度、擦除法所认为的重要性几乎不一致，
#   而且换上一组完全不同的权重，往往仍得到同样的回答。
# - Wiegreffe 和 Pinter（2019），*Attention is not not explanation*：这取决于“解释”指的是什么；与模型一同学出的权重并不是
#   任意的，检验时也必须只给模型它真正拥有的自由度。
#
# 我们不作裁决，而是在自己的两个小模型上把这些检验并排做一遍。

# %%
import datetime
import random

import matplotlib.pyplot as plt
import torch
from scipy.stats import kendalltau

from attention_rnn import (
    AttentionRnnConfig,
    AttentionRnnForConditionalGeneration,
    AttentionRnnForSequenceClassification,
)
from attention_rnn.tokenizer_training import pair_tokenizers, train_tokenizer

rng = random.Random(0)


def train(model, batch, steps):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=steps)
    for _ in range(steps):
        rows = torch.randint(len(batch["input_ids"]), (32,))
        loss = model(**{name: tensor[rows] for name, tensor in batch.items()}).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model.eval()


# %% [markdown] lang="en"
# ## A classifier
#
# Reviews with negations, as in [chapter 6](applications.md). Three measures of how important a word is for the answer:
#
# - **attention**: its weight in the pooled vector;
# - **gradient**: the norm of the derivative of the score of the answer by the word's embedding;
# - **erasure**: how far the probability of the answer moves when the word's embedding is set to zero.

# %% [markdown] lang="zh"
# ## 一个分类器
#
# 带否定词的评论，与[第 6 章](applications.md)相同。衡量一个词对回答有多重要，有三种办法：
#
# - **注意力**：它在汇聚向量中的权重；
# - **梯度**：回答的得分对该词词向量的导数的范数；
# - **擦除**：把该词的词向量置零后，回答的概率变动多少。

# %%
GOOD, BAD = "good funny moving clever".split(), "bad dull slow silly".split()


def review():
    positive, negated = rng.random() < 0.5, rng.random() < 0.4
    word = rng.choice(GOOD if positive != negated else BAD)
    thing = rng.choice("film story cast music".split())
    verdict = f"the {thing} was {'not ' if negated else ''}{rng.choice(['', 'really ', 'very '])}{word}"
    filler = rng.choice(["i saw it with my sister", "we went on monday", "it is about a dog and a cat"])
    return rng.choice([f"{filler} and {verdict}", f"{verdict} , {filler}"]), int(positive)


texts, labels = zip(*(review() for _ in range(600)), strict=True)
tokenizer = train_tokenizer(texts, kind="word")
batch = tokenizer(list(texts), padding=True, return_tensors="pt")
batch["labels"] = torch.tensor(labels)
torch.manual_seed(0)
config = AttentionRnnConfig(vocab_size=len(tokenizer), embedding_size=32, hidden_size=48)
critic = train(
    AttentionRnnForSequenceClassification(config), {name: tensor[100:] for name, tensor in batch.items()}, steps=120
)


def importance(text):
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    embeddings = critic.get_input_embeddings()(ids).detach().requires_grad_()
    outputs = critic(inputs_embeds=embeddings, output_attentions=True)
    answer = outputs.logits[0].argmax()
    outputs.logits[0, answer].backward()
    length = ids.shape[1] - 1  # without the </s>
    erased = embeddings.detach().repeat(length, 1, 1)
    erased[range(length), range(length)] = 0
    with torch.no_grad():
        probabilities = critic(inputs_embeds=erased).logits.softmax(dim=-1)[:, answer]
    moved = (outputs.logits.softmax(dim=-1)[0, answer] - probabilities).abs()
    return {
        "attention": outputs.attentions[0][0, 0, 0, :length].detach(),
        "gradient": embeddings.grad[0, :length].norm(dim=-1),
        "erasure": moved.detach(),
    }


def is_answered(index):
    with torch.no_grad():
        logits = critic(tokenizer(texts[index], return_tensors="pt")["input_ids"]).logits
    return logits.argmax().item() == labels[index]


print(f"{sum(map(is_answered, range(100)))} of 100 new reviews are answered right")

# %% figure="One review, and for each of its words the three measures as bars side by side."
chosen = next(text for text in texts[:100] if "not" in text.split())
measures, words = importance(chosen), chosen.split()
figure, axes = plt.subplots(figsize=(7, 2.6), layout="constrained")
for index, (name, values) in enumerate(measures.items()):
    axes.bar([place + 0.27 * (index - 1) for place in range(len(words))], values / values.sum(), 0.25, label=name)
axes.set_xticks(range(len(words)), words, rotation=40, ha="right")
axes.set_ylabel("share of the importance")
axes.legend()
plt.show()

# %% [markdown] lang="en"
# One picture proves nothing. Over all 100 reviews: how often do two measures name the same most important word, and how
# well do their orders of the words agree (Kendall's τ: 1 the same order, 0 none, -1 the opposite)?

# %% [markdown] lang="zh"
# 一幅图证明不了什么。在全部 100 条评论上：两种办法有多少次选出同一个最重要的词？它们给词排的次序又有多一致（Kendall 的 τ：
# 1 为次序相同，0 为无关，-1 为相反）？

# %%
measured = [importance(text) for text in texts[:100]]
agreements = {}
for one, other in (("attention", "gradient"), ("attention", "erasure"), ("gradient", "erasure")):
    top = sum(values[one].argmax() == values[other].argmax() for values in measured)
    order = sum(kendalltau(values[one], values[other]).statistic for values in measured) / len(measured)
    print(f"{one:9} and {other:8}: same first word in {top:3} of 100 reviews, mean τ {order:.2f}")
verdicts = {*GOOD, *BAD, "not"}
for name in measured[0]:
    found = sum(text.split()[values[name].argmax()] in verdicts for text, values in zip(texts, measured, strict=False))
    print(f"{name:9}: first word is a word of the verdict, or its `not`, in {found:3} of 100")

# %% [markdown] lang="en"
# Here we know what the answer depends on, for we have written the texts: the verdict and its negation. That is a luxury;
# on real data nobody has this last table. Erasure finds them. Attention often does not, and the picture shows how: all of
# its weight lies on one word, and erasure says that two count. There is no contradiction. Attention weighs **states**,
# and the state at one word has read its neighbours before the attention looks at it.
#
# ### Other weights, the same answer?
#
# If the weights were the reason, other weights should give another answer. We shuffle them among the words of each
# review, twenty times, and pool the same memory anew:

# %% [markdown] lang="zh"
# 在这里，我们知道回答取决于什么，因为文本是我们自己写的：评语和它的否定。这是一种奢侈；在真实数据上，没有人有最后这张表。
# 擦除法找到了它们，注意力却常常找不到，从图中可以看出是怎么回事：它的权重全在一个词上，而擦除法说有两个词要紧。这并不矛盾。
# 注意力衡量的是**状态**，而一个词处的状态，在注意力看它之前就已经读过它的邻居。
#
# ### 换一组权重，回答还一样吗？
#
# 假如权重就是原因，那么换一组权重就该得到另一个回答。我们把每条评论的权重在词之间打乱二十次，对同样的记忆重新汇聚：

# %%
torch.manual_seed(0)
same, moved = [], []
with torch.no_grad():
    for text in texts[:100]:
        inputs = tokenizer(text, return_tensors="pt")
        memory = critic.model(**inputs).last_hidden_state
        pooled, weights = critic.pooling(memory, None)
        answer = critic.classifier(pooled).softmax(dim=-1)
        for _ in range(20):
            shuffled = weights[:, :, torch.randperm(weights.shape[-1])]
            other = critic.classifier((shuffled @ memory).flatten(1)).softmax(dim=-1)
            same.append((other.argmax() == answer.argmax()).item())
            moved.append((other - answer).abs()[0, 0].item())
print(f"shuffled weights give the same answer in {100 * sum(same) / len(same):.0f} % of the cases")
print(f"the probability moves by {sum(moved) / len(moved):.2f} on average")

# %% [markdown] lang="en"
# About as many answers stay as a coin would leave: this model cannot do with any weights. So they are not arbitrary, and
# here Wiegreffe and Pinter are right. That they are not the importance of the words either, the table above has shown.
# Both hold of the same model.
#
# ## A translator
#
# The same three measures for the date normaliser of [chapter 4](attention.md), where each character that is written
# has its own weights. The picture of erasure: by how much the probability of the written character falls when a
# character of the source is taken away.

# %% [markdown] lang="zh"
# 保持不变的回答大约和抛硬币差不多：这个模型离不开自己的权重。所以权重不是任意的，在这里 Wiegreffe 和 Pinter 是对的。而上面的
# 表说明，权重也不等于词的重要性。两句话对同一个模型都成立。
#
# ## 一个转写器
#
# 对[第 4 章](attention.md)的日期规范化模型做同样的三种测量，这里每写一个字符都有自己的一组权重。擦除图表示：去掉原文中的
# 一个字符后，所写字符的概率下降多少。

# %%
MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()


def written(day):
    return f"{day.day} {MONTHS[day.month - 1]} {day.year}"


days = [datetime.date(1900, 1, 1) + datetime.timedelta(days=rng.randrange(73000)) for _ in range(3000)]
sources, targets = [written(day) for day in days], [day.isoformat() for day in days]
pair = pair_tokenizers(train_tokenizer(sources, kind="character"), train_tokenizer(targets, kind="character"))
batch = pair(sources, text_target=targets, padding=True, return_tensors="pt")
batch["labels"][batch["labels"] == pair.pad_token_id] = -100
models = {}
for attention_type in ("general", "additive"):
    torch.manual_seed(0)
    config = AttentionRnnConfig(
        source_vocab_size=len(pair),
        vocab_size=len(pair.target),
        attention_type=attention_type,
        embedding_size=32,
        hidden_size=48,
    )
    models[attention_type] = train(AttentionRnnForConditionalGeneration(config), batch, steps=140)


def looks(model, source, target):
    """Attention, gradient and erasure, (target, source) each, of what is written."""
    inputs = pair([source], text_target=[target], return_tensors="pt")
    ids, labels = inputs["input_ids"], inputs["labels"]
    embeddings = model.get_input_embeddings()(ids).detach().requires_grad_()
    outputs = model(inputs_embeds=embeddings, labels=labels, output_attentions=True)
    scores = outputs.logits[0].log_softmax(dim=-1).gather(1, labels[0][:, None])[:, 0]
    gradients = [torch.autograd.grad(score, embeddings, retain_graph=True)[0][0].norm(dim=-1) for score in scores]
    size = ids.shape[1]
    erased = embeddings.detach().repeat(size, 1, 1)
    erased[range(size), range(size)] = 0
    with torch.no_grad():
        logits = model(inputs_embeds=erased, labels=labels.repeat(size, 1)).logits
    remaining = logits.softmax(dim=-1).gather(2, labels.repeat(size, 1)[..., None])[..., 0]  # (erased, target)
    return {
        "attention": outputs.cross_attentions[0][0].mean(dim=0).detach(),
        "gradient": torch.stack(gradients),
        "erasure": (scores.exp().detach() - remaining).clamp(min=0).T,
    }


example = datetime.date(2067, 9, 14)
pictures = {name: looks(model, written(example), example.isoformat()) for name, model in models.items()}

# %% figure="Two rows of three heat maps, for general and additive attention: attention, gradient, erasure. At the digits attention and erasure mostly mark the same cells; at the hyphens erasure is empty and attention is not."
figure, axes = plt.subplots(2, 3, figsize=(6.6, 4.6), layout="constrained")
for row, (name, measures) in zip(axes, pictures.items(), strict=True):
    for ax, (measure, values) in zip(row, measures.items(), strict=True):
        ax.imshow(values / values.max(), vmin=0, vmax=1, aspect="equal")
        ax.set_title(f"{name}: {measure}")
        ax.set_xticks(range(values.shape[1]), [*written(example), "·"], fontsize=7)
        ax.set_yticks(range(values.shape[0]), [*example.isoformat(), "·"], fontsize=7)
plt.show()

# %%
for name, model in models.items():
    hits = {"gradient": 0, "erasure": 0}
    characters = 0
    for source, target in list(zip(sources, targets, strict=True))[:40]:
        measures = looks(model, source, target)
        matters = measures["erasure"].max(dim=1).values > 0.1  # some character of the source does
        characters += int(matters.sum())
        for other in hits:
            hits[other] += int((measures["attention"].argmax(1) == measures[other].argmax(1))[matters].sum())
    shares = ", ".join(f"{other} {100 * hit / characters:.0f} %" for other, hit in hits.items())
    print(f"{name:8}: attention is greatest at the character that is greatest by: {shares}")

# %% [markdown] lang="en"
# Where one character is made of one character, attention points where erasure does in most cases: the closer the task is
# to looking something up, the more an alignment can be trusted. But see the rows of `-`. Erasure is empty there, because
# the model writes a hyphen whatever the date is; and attention looks somewhere all the same, since its weights must sum to
# one. And the two models, which write the same dates, look at the month in different ways.
#
# ## What follows
#
# - An alignment is evidence of where information was fetched from, and a good place to find faults: a translation that
#   looks at nothing, a date that skips a digit.
# - It is no proof of why. Before you say *because*, erase and see.
# - Erasure and gradients have their own blind spots: a text without a word is not one that the model knows, and a
#   derivative holds for tiny steps only. When the measures agree you know more; when they do not, you know that as well.

# %% [markdown] lang="zh"
# 凡是一个字符由一个字符得来的地方，注意力和擦除法大多指向同一处：任务越像查找，对齐就越可信。但请看 `-` 那几行：擦除图是空的，
# 因为无论什么日期，模型都会写连字符；而注意力照样看着某个地方，因为它的权重之和必须为一。还有，两个写出同样日期的模型，看月份的
# 方式却不同。
#
# ## 由此可知
#
# - 对齐能说明信息是从哪里取来的，也适合用来找毛病：什么也没看的译文、漏看一位数字的日期。
# - 它不能证明为什么。说“因为”之前，先擦掉试一试。
# - 擦除和梯度也有自己的盲点：少了一个词的文本不是模型熟悉的文本，而导数只对极小的步子有效。几种办法一致时，你知道得更多；
#   不一致时，你至少也知道了这一点。
