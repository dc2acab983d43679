# %% [markdown] lang="en"
# # 6. Applications
#
# One encoder, six tasks. Each is shown here on a few hundred sentences that the chapter writes itself, so that it trains
# in seconds. They are toys: what the same classes reach on published data is in [the results](../results/quality.md),
# and [the guides](../guides/own_file.md) train them on files of yours, by one command instead of a loop.

# %% [markdown] lang="zh"
# # 6. 应用
#
# 一个编码器，六种任务。这里每种任务只用本章自己写出的几百个句子，几秒钟就能训练完。它们只是玩具：同样的类在公开数据上的
# 成绩见[结果](../../results/quality.md)；[指南](../../guides/own_file.md)则教你在自己的文件上训练，只需一条命令，不必写循环。

# %%
import itertools
import random

import matplotlib.pyplot as plt
import torch

from attention_rnn import (
    AttentionRnnConfig,
    AttentionRnnForCausalLM,
    AttentionRnnForConditionalGeneration,
    AttentionRnnForQuestionAnswering,
    AttentionRnnForSequenceClassification,
    AttentionRnnForTokenClassification,
)
from attention_rnn.alignment import alignment_from_outputs
from attention_rnn.copy_vocabulary import CopyVocabulary
from attention_rnn.plotting import plot_alignment
from attention_rnn.tokenizer_training import pair_tokenizers, train_tokenizer

rng = random.Random(0)
SIZES = {"embedding_size": 32, "hidden_size": 48}


def train(model, batch, steps):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=steps)
    model.train()
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
# ## Translation
#
# German puts the verb second: *yesterday the dog saw the cat* becomes *gestern sah der Hund die Katze*. And a man who is
# seen is *den Mann*. 60 of the sentences are kept for the test.

# %% [markdown] lang="zh"
# ## 翻译
#
# 德语的动词要放在第二位：*yesterday the dog saw the cat* 译成 *gestern sah der Hund die Katze*；被看见的男人则是
# *den Mann*。留出 60 个句子作测试。

# %%
TIMES = [("", ""), ("yesterday ", "gestern "), ("then ", "dann ")]
NOUNS = [
    ("dog", "der Hund", "den Hund"),
    ("cat", "die Katze", "die Katze"),
    ("child", "das Kind", "das Kind"),
    ("man", "der Mann", "den Mann"),
    ("woman", "die Frau", "die Frau"),
]
VERBS = [("saw", "sah"), ("heard", "hörte"), ("called", "rief"), ("found", "fand")]
pairs = []
for (when, wann), who, (verb, tat), whom in itertools.product(TIMES, NOUNS, VERBS, NOUNS):
    if who != whom:
        german = f"{wann}{tat} {who[1]} {whom[2]}" if wann else f"{who[1]} {tat} {whom[2]}"
        pairs.append((f"{when}the {who[0]} {verb} the {whom[0]}", german))
rng.shuffle(pairs)
sources, targets = (list(side) for side in zip(*pairs, strict=True))
tokenizer = pair_tokenizers(train_tokenizer(sources, kind="word"), train_tokenizer(targets, kind="word"))
batch = tokenizer(sources[60:], text_target=targets[60:], padding=True, return_tensors="pt")
batch["labels"][batch["labels"] == tokenizer.pad_token_id] = -100

torch.manual_seed(0)
config = AttentionRnnConfig(
    source_vocab_size=len(tokenizer), vocab_size=len(tokenizer.target), attention_type="general", **SIZES
)
translator = train(AttentionRnnForConditionalGeneration(config), batch, steps=100)
tested = tokenizer(sources[:60], padding=True, return_tensors="pt")
written = tokenizer.batch_decode(translator.generate(**tested, max_new_tokens=9), skip_special_tokens=True)
right = sum(one == other for one, other in zip(written, targets, strict=False))
print(f"{right} of 60 new sentences are right")
chosen = next(index for index, source in enumerate(sources[:60]) if source.startswith("yesterday"))
print(f"{sources[chosen]} -> {written[chosen]}")

# %% figure="Attention of a translation, one dark cell in each row: der Hund and die Katze look at their English words; the verb looks at yesterday."
inputs = tokenizer([sources[chosen]], return_tensors="pt")
outputs = translator.generate(**inputs, max_new_tokens=9, output_attentions=True, return_dict_in_generate=True)
source_tokens = tokenizer.convert_ids_to_tokens(inputs["input_ids"][0])
target_tokens = tokenizer.target.convert_ids_to_tokens(outputs.sequences[0, 1:])
figure, axes = plt.subplots(figsize=(2.6, 2.6), layout="constrained")
plot_alignment(alignment_from_outputs(outputs)[0], source_tokens, target_tokens, axes=axes)
plt.show()

# %% [markdown] lang="en"
# Nouns look at their nouns. The verb need not look at the verb: the encoder reads in both directions, so the state at
# another word may know it as well. [Chapter 7](explanation.md) is about this.
#
# ## Summarisation, with words never seen
#
# The subject line of a message holds names, and a name may be in no vocabulary. With `copy` the decoder chooses at each
# step between writing a word and copying one that it looks at (See et al., 2017). The names of the test occur nowhere in
# the training.

# %% [markdown] lang="zh"
# 名词看着对应的名词。动词却不一定看着动词：编码器双向阅读，别的词处的状态也可能知道它。[第 7 章](explanation.md)专门讲这一点。
#
# ## 摘要，以及从未见过的词
#
# 邮件的主题行里有人名，而人名可能不在任何词表中。设置 `copy` 后，解码器每一步都在“写一个词”和“复制正在看的词”之间选择
# （See 等，2017）。测试中的人名在训练数据里从未出现。


# %%
def name():
    return "".join(rng.choice("bdgklmnrstvz") + rng.choice("aeiou") for _ in range(3))


def message():
    day, hour = rng.choice("monday tuesday friday".split()), rng.choice("nine ten noon".split())
    kind, who = rng.choice("meeting lunch call".split()), name()
    opening = rng.choice([f"hello {name()} ,", "dear all ,", "hi ,"])
    closing = rng.choice(["see you then", f"thanks {name()}", "best wishes"])
    middle = rng.choice(
        [f"the {kind} with {who} is on {day} at {hour} .", f"on {day} at {hour} there is a {kind} with {who} ."]
    )
    return f"{opening} {middle} {closing}", f"{kind} with {who} , {day}"


sources, targets = (list(side) for side in zip(*(message() for _ in range(640)), strict=True))
tokenizer = train_tokenizer(sources + targets, kind="word", min_frequency=10)
copying = CopyVocabulary(tokenizer, len(tokenizer))
inputs, unknown = copying.encode_sources(sources[40:], padding=True, return_tensors="pt")
labels = torch.tensor(copying.extend(targets[40:], tokenizer(targets[40:], padding=True)["input_ids"], unknown))
batch = {**inputs, "labels": labels.masked_fill(labels == tokenizer.pad_token_id, -100)}

torch.manual_seed(0)
config = AttentionRnnConfig(vocab_size=len(tokenizer), attention_type="general", copy=True, **SIZES)
summarizer = train(AttentionRnnForConditionalGeneration(config), batch, steps=130)
tested, unknown = copying.encode_sources(sources[:40], padding=True, return_tensors="pt")
written = copying.batch_decode(summarizer.generate(**tested, max_new_tokens=9), unknown)
print(f"{sum(one == other for one, other in zip(written, targets, strict=False))} of 40 subject lines are right")
print(f"{sources[0]}\n-> {written[0]}   (unknown to the vocabulary: {', '.join(unknown[0])})")

# %% [markdown] lang="en"
# ## Sentiment
#
# One label for a text. The memory is pooled into one vector by self-attention (Lin et al., 2017), whose weights are
# returned. A negation turns the meaning of the word behind it, so counting words is not enough.

# %% [markdown] lang="zh"
# ## 情感分类
#
# 给整篇文本一个标签。自注意力把记忆汇聚成一个向量（Lin 等，2017），它的权重也会返回。否定词会翻转后面那个词的含义，所以光
# 数词是不够的。

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
config = AttentionRnnConfig(vocab_size=len(tokenizer), id2label={0: "negative", 1: "positive"}, **SIZES)
critic = train(
    AttentionRnnForSequenceClassification(config), {name: tensor[100:] for name, tensor in batch.items()}, steps=60
)
tested = {name: tensor[:100] for name, tensor in batch.items()}
with torch.no_grad():
    outputs = critic(**tested, output_attentions=True)
print(f"{(outputs.logits.argmax(dim=-1) == tested['labels']).sum()} of 100 new reviews are right")

# %% figure="A negated review, its words along the axis, and the weight of each in the pooled vector."
chosen = next(index for index in range(100) if "not" in texts[index].split())
words = [*texts[chosen].split(), "</s>"]
figure, axes = plt.subplots(figsize=(7, 1.9), layout="constrained")
axes.bar(range(len(words)), outputs.attentions[0][chosen, 0, 0, : len(words)])
axes.set_xticks(range(len(words)), words, rotation=40, ha="right")
axes.set(ylabel="weight", title=f"predicted: {config.id2label[outputs.logits[chosen].argmax().item()]}")
plt.show()

# %% [markdown] lang="en"
# The answer hangs on the negation and the word behind it, and the weights may lie beside them, for the same reason.
#
# ## Tagging
#
# One label for each word: here names of persons and places, in the scheme BIO (*begin*, *inside*, *outside*). The same
# words can be either, and the words around them tell. With `crf` the sequence of labels is scored as a whole, and with
# `constrained_decoding` an `I` cannot follow an `O`.

# %% [markdown] lang="zh"
# 回答取决于否定词和它后面的词，而权重可能落在它们旁边，原因与上面相同。
#
# ## 序列标注
#
# 给每个词一个标签：这里是人名和地名，采用 BIO 方案（*begin* 开始、*inside* 内部、*outside* 外部）。同一个词两者都可能是，
# 要看它周围的词。`crf` 对整个标签序列打分，`constrained_decoding` 则保证 `I` 不会跟在 `O` 后面。

# %%
LABELS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
NAMES = "paris austin florence jordan victoria sydney".split()


def tagged():
    words, labels = [], []
    for part in rng.sample([("PER", "i met"), ("LOC", "we flew to"), ("PER", "ask"), ("LOC", "he lives in")], 2):
        kind, opening = part
        chosen = rng.sample(NAMES, rng.choice([1, 2]))
        words += [*opening.split(), *chosen, "."]
        labels += ["O"] * len(opening.split()) + [f"B-{kind}"] + [f"I-{kind}"] * (len(chosen) - 1) + ["O"]
    return words, labels


sentences = [tagged() for _ in range(400)]
tokenizer = train_tokenizer([" ".join(words) for words, _ in sentences], kind="word")
batch = tokenizer([" ".join(words) for words, _ in sentences], padding=True, return_tensors="pt")
batch["labels"] = torch.full_like(batch["input_ids"], -100)
for row, (_, labels) in zip(batch["labels"], sentences, strict=True):
    row[: len(labels)] = torch.tensor([LABELS.index(label) for label in labels])

torch.manual_seed(0)
config = AttentionRnnConfig(
    vocab_size=len(tokenizer),
    attention_type=None,
    crf=True,
    constrained_decoding=True,
    id2label=dict(enumerate(LABELS)),
    **SIZES,
)
tagger = train(
    AttentionRnnForTokenClassification(config), {name: tensor[100:] for name, tensor in batch.items()}, steps=50
)
tested = {name: tensor[:100] for name, tensor in batch.items()}
with torch.no_grad():
    predicted = tagger(**tested).logits.argmax(dim=-1)
right = ((predicted == tested["labels"]) | (tested["labels"] == -100)).all(dim=1).sum()
print(f"{right} of 100 new sentences have every label right")
print(" ".join(f"{word}/{LABELS[label]}" for word, label in zip(sentences[0][0], predicted[0].tolist(), strict=False)))

# %% [markdown] lang="en"
# ## Questions
#
# The answer is a span of the context. Context and question attend to each other before start and end are told.

# %% [markdown] lang="zh"
# ## 问答
#
# 答案是上下文中的一段。上下文与问题先互相注意，再判断答案的起点和终点。

# %%
PEOPLE = "anna bob carla dan eva".split()
PLACES = ["oslo", "new york", "rome", "cape town", "lima", "hong kong"]


def asked():
    people, places = rng.sample(PEOPLE, 3), rng.sample(PLACES, 3)
    context = " ".join(f"{person} lives in {place} ." for person, place in zip(people, places, strict=True))
    index = rng.randrange(3)
    start = context.index(f"{people[index]} lives") + len(f"{people[index]} lives in ")
    return f"where does {people[index]} live ?", context, start, places[index]


examples = [asked() for _ in range(600)]
questions, contexts = [example[0] for example in examples], [example[1] for example in examples]
tokenizer = train_tokenizer(questions + contexts, kind="word")
batch = tokenizer(questions, contexts, padding=True, return_tensors="pt", return_token_type_ids=False)
spans = [
    (
        batch.char_to_token(row, start, sequence_index=1),
        batch.char_to_token(row, start + len(answer) - 1, sequence_index=1),
    )
    for row, (_, _, start, answer) in enumerate(examples)
]
batch["start_positions"], batch["end_positions"] = torch.tensor(spans).T

torch.manual_seed(0)
config = AttentionRnnConfig(vocab_size=len(tokenizer), **SIZES)
reader = train(
    AttentionRnnForQuestionAnswering(config), {name: tensor[100:] for name, tensor in batch.items()}, steps=80
)
tested = {name: tensor[:100] for name, tensor in batch.items()}
with torch.no_grad():
    outputs = reader(**tested)
found = torch.stack([outputs.start_logits.argmax(dim=-1), outputs.end_logits.argmax(dim=-1)])
wanted = torch.stack([tested["start_positions"], tested["end_positions"]])
print(f"{(found == wanted).all(dim=0).sum()} of 100 new questions are answered right")
start, end = found[:, 0].tolist()
print(f"{contexts[0]} {questions[0]} -> {tokenizer.decode(batch['input_ids'][0, start : end + 1])}")

# %% [markdown] lang="en"
# ## A language model
#
# The decoder alone, trained to go on. It reads a stretch of counting, and then counts by itself, letter by letter, with
# a state of constant size however long it writes.

# %% [markdown] lang="zh"
# ## 语言模型
#
# 只有解码器，训练它把文本续写下去。它读一段数数的文字，然后自己逐个字母地数下去；无论写多长，状态的大小都不变。

# %%
ONES = "one two three four five six seven eight nine".split()
TENS = "twenty thirty forty fifty sixty".split()
counting = ", ".join(ten if one == "" else f"{ten} {one}" for ten in TENS for one in ["", *ONES]) + ", "
tokenizer = train_tokenizer([counting], kind="character", causal=True)
ids = tokenizer(counting, return_tensors="pt", add_special_tokens=False)["input_ids"][0]
windows = ids.unfold(0, 48, 1)

torch.manual_seed(0)
config = AttentionRnnConfig(
    vocab_size=len(tokenizer),
    attention_type=None,
    decoder_layers=1,
    is_encoder_decoder=False,
    **{**SIZES, "hidden_size": 96},
)
counter = train(AttentionRnnForCausalLM(config), {"input_ids": windows, "labels": windows}, steps=200)
prompt = "thirty seven, thirty eight, "
start = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)["input_ids"]
told = tokenizer.decode(counter.generate(start, max_new_tokens=90)[0])
print(f"prompt:       {prompt}\ncontinuation: {told[len(prompt) :]}")

# %% [markdown] lang="en"
# Six heads, one house: the same cells, attention and encoder, configured by one class. Forecasting of time series and
# recognition of speech will join them.

# %% [markdown] lang="zh"
# 六种任务头，同一座房子：相同的单元、注意力和编码器，由同一个类配置。时间序列预测和语音识别以后也会加入。
