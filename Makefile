# `make demo` trains a model, evaluates it and uses it; `make test` runs the tests. Both need only Python and git.
# Whatever they need besides is installed into .venv, once, in the versions that constraints.txt pins.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# Nothing here downloads a model or a data set.
export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false

# One thread trains it: on matrices this small a second one gains little when idle and costs much on a busy machine.
DEMO := runs/date_normalisation
DEMO_FLAGS := \
	--source_tokenizer character --metrics exact_match cer --num_beams 1 --max_target_length 16 \
	--config_overrides embedding_size=64,hidden_size=128 \
	--num_train_epochs 3 --learning_rate 3e-3 --lr_scheduler_type cosine --warmup_steps 50
DEMO_SOURCES := "le mardi 3 mars 1998" "1998年3月3日" "3. März 1998" "Tuesday, March 3, 1998" "вторник, 3 марта 1998 г."

# A model that streams: no layer reads backwards, no convolution sees later frames. Its many recordings are harder than
# few that are masked and changed in each epoch.
SPEECH_DEMO := runs/home_commands
SPEECH_DEMO_FLAGS := \
	--tokenizer word --speed_change 0 \
	--config_overrides 'bidirectional=False,causal=True,hidden_size=160,embedding_size=32,time_reduction=[1,2],$\
	num_mel_bins=40,subsampling_channels=[12,12],ctc_weight=0.5,hidden_dropout=0.1,apply_spec_augment=False' \
	--num_train_epochs 4 --per_device_train_batch_size 32 --warmup_steps 50 --eval_strategy no

.DEFAULT_GOAL := help
.PHONY: help install demo demo-speech test web docs release-check conformance ecosystem faults fuzz versions lint types format
.PHONY: clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

install: $(INSTALLED)  ## Make .venv with the project (editable) and everything pinned in constraints.txt

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python >= 3.10 is needed: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt setuptools setuptools-scm  # seqeval needs both
	$(BIN)/python -m pip install --constraint constraints.txt --no-build-isolation --editable '.[dev]'
	@touch $@

demo: $(INSTALLED)  ## Train a date normaliser for 55 locales, test it, translate with it (3 minutes on 2 cores)
	rm -rf $(DEMO)
	$(BIN)/python examples/date_normalisation/make_data.py --output_dir $(DEMO)/data
	OMP_NUM_THREADS=1 $(BIN)/python examples/run_seq2seq.py \
		--train_file $(DEMO)/data/train.jsonl \
		--validation_file $(DEMO)/data/validation.jsonl \
		--test_file $(DEMO)/data/test.jsonl \
		--source_column source --target_column target \
		--output_dir $(DEMO)/model \
		--do_train --do_eval --do_predict \
		$(DEMO_FLAGS)
	@printf '\nA fresh process loads $(DEMO)/model and translates:\n'
	$(BIN)/python examples/translate.py $(DEMO)/model $(DEMO_SOURCES)
	@printf '%s\n' '' \
		'Done: wrote dates in 55 locales, trained an attention GRU on them from random weights, tested it' \
		'on dates that it had never seen, and translated a few strings with the saved model.' \
		''
	@sed -n 's/.*"predict_exact_match": \([0-9.]*\).*/  exact match on the test dates           \1 %/p' $(DEMO)/model/predict_results.json
	@printf '%s\n' \
		'  model, tokenizer, metrics, model card   $(DEMO)/model' \
		'  attention heat maps                     $(DEMO)/model/attention_maps' \
		'' \
		'Next:' \
		'  $(BIN)/python examples/translate.py $(DEMO)/model "a date of your own"' \
		'  $(BIN)/python examples/run_seq2seq.py --help    # to train on a file of your own'

demo-speech: $(INSTALLED)  ## Let espeak-ng speak commands, train speech to text on them, transcribe (4 minutes on 2 cores)
	rm -rf $(SPEECH_DEMO)
	$(BIN)/python examples/home_commands/make_data.py --output_dir $(SPEECH_DEMO)/data --train_size 9000
	OMP_NUM_THREADS=1 $(BIN)/python examples/run_speech_seq2seq.py \
		--train_file $(SPEECH_DEMO)/data/train.jsonl \
		--validation_file $(SPEECH_DEMO)/data/validation.jsonl \
		--test_file $(SPEECH_DEMO)/data/test.jsonl \
		--output_dir $(SPEECH_DEMO)/model \
		--do_train --do_eval --do_predict \
		$(SPEECH_DEMO_FLAGS)
	@printf '\nA fresh process loads $(SPEECH_DEMO)/model and transcribes, with the seconds at which each word was said:\n'
	$(BIN)/python examples/transcribe.py $(SPEECH_DEMO)/model --timestamps word \
		$(SPEECH_DEMO)/data/wav/test_0.wav $(SPEECH_DEMO)/data/wav/test_1.wav
	@printf '\nIt hears the same as streams, in chunks of 320 ms on one core, with the seconds at which it wrote each word:\n'
	OMP_NUM_THREADS=1 $(BIN)/python examples/transcribe.py $(SPEECH_DEMO)/model --stream --timestamps word \
		$(SPEECH_DEMO)/data/wav/test_0.wav $(SPEECH_DEMO)/data/wav/test_1.wav
	@printf '%s\n' '' \
		'Done: let espeak-ng speak commands for a home in many voices, trained joint CTC and attention on them' \
		'from random weights, and tested it on commands and voices that it had never heard.' \
		''
	@sed -n 's/.*"predict_wer": \([0-9.]*\).*/  wrong words of the test commands       \1 %/p' $(SPEECH_DEMO)/model/predict_results.json
	@printf '%s\n' \
		'  model, processor, metrics, model card   $(SPEECH_DEMO)/model' \
		'  attention and CTC over spectrograms     $(SPEECH_DEMO)/model/attention_maps' \
		'' \
		'Next:' \
		'  $(BIN)/python examples/transcribe.py $(SPEECH_DEMO)/model a_recording_of_your_own.wav' \
		'  $(BIN)/python examples/transcribe.py $(SPEECH_DEMO)/model --microphone    # needs sounddevice' \
		'  $(BIN)/python examples/run_speech_seq2seq.py --help    # to train on recordings of your own'

test: $(INSTALLED)  ## Run the tests, one process a core
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses logical --maxprocesses 8 --dist worksteal

web: $(INSTALLED) js/node_modules/.installed  ## Compare JavaScript with Python, in Node and in Chromium where it is (needs npm)
	npm --prefix js run types
	OMP_NUM_THREADS=1 $(BIN)/pytest tests/test_web.py -rs

js/node_modules/.installed: js/package.json js/package-lock.json
	npm ci --prefix js --ignore-scripts --no-audit --no-fund
	@touch $@

docs: $(VENV)/.docs  ## Run the chapters of docs/learn, where they or the package have changed, and build the site into build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

$(VENV)/.docs: $(INSTALLED)
	$(BIN)/python -m pip install --constraint constraints.txt --no-build-isolation --editable '.[dev,docs]'
	@touch $@

release-check: $(VENV)/.docs  ## Build wheel, sdist and site, and check them and the workflow of CI
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[release]'
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

conformance: $(INSTALLED)  ## Run transformers' own tests of models on ours (fetches their archive once, by pip)
	OMP_NUM_THREADS=1 $(BIN)/pytest conformance --numprocesses logical --maxprocesses 8 --dist worksteal

ecosystem: $(INSTALLED)  ## Try peft, trl, lm-eval, torchao and other packages on our models (installs them once; 4 minutes)
	$(BIN)/nox --error-on-missing-interpreters --reuse-existing-virtualenvs --session ecosystem

faults: $(INSTALLED)  ## Kill 30 trainings, flip 3,000 bits, serve 2,000 calls (4 minutes on 2 cores)
	THOROUGH=1 OMP_NUM_THREADS=1 $(BIN)/pytest -rA --show-capture=stdout \
		tests/test_training_faults.py tests/test_damaged_checkpoints.py tests/test_long_service.py

fuzz: $(INSTALLED)  ## Try bad input, 2,000 examples a test (6 minutes on 2 cores)
	OMP_NUM_THREADS=1 $(BIN)/pytest tests/test_bad_*.py --hypothesis-profile fuzz \
		--numprocesses logical --maxprocesses 8 --dist worksteal

versions: $(INSTALLED)  ## Run the tests with the oldest and the newest versions, on Python 3.10 and 3.13
	$(BIN)/nox --error-on-missing-interpreters --session lowest highest

lint: $(INSTALLED)  ## Check style and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(INSTALLED)  ## Check the types
	$(BIN)/mypy

format: $(INSTALLED)  ## Format the code and mend what can be mended by machine
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

clean:  ## Remove .venv, builds and caches, and leave runs/ alone
	rm -rf $(VENV) build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
