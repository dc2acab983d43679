"""What a training shows while it runs, how it is stopped by Ctrl-C, and its curves when it is over."""

import logging
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState

from .model_card import format_duration

logger = logging.getLogger(__name__)

_BAR = "{percentage:3.0f} % {bar:30} {n_fmt}/{total_fmt} steps, {remaining} left  {desc}"


class ProgressBar(TrainerCallback):
    """One bar for a whole training, with the time left, the loss and the best score; without a terminal lines."""

    def __init__(self) -> None:
        self.bar: tqdm | None = None
        self.loss, self.scored = "", ""
        self.is_loss_new = self.is_training = False
        self.best: float | None = None
        self.start = (0.0, 0)  # the time, and the step

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            best = (args.metric_for_best_model or "loss").removeprefix("eval_")
            count = kwargs["model"].num_parameters()
            size = f"{count / 1e6:.1f} million parameters" if count >= 1e5 else f"{count:,} parameters"
            epochs = "1 epoch" if state.num_train_epochs == 1 else f"{state.num_train_epochs:,} epochs"
            length = f"{epochs}, {args.train_batch_size} examples a step"
            kept = f"the model with the best {best}" if args.load_best_model_at_end else "the last model"
            print(f"{size}; {length}; {kept} is kept", flush=True)
        if state.is_world_process_zero and sys.stderr.isatty():
            self.bar = tqdm(total=state.max_steps, initial=state.global_step, bar_format=_BAR, dynamic_ncols=True)
        self.is_training = True
        self.best, self.start = state.best_metric, (time.monotonic(), state.global_step)

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, logs: Any = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            self.loss, self.is_loss_new = f"training loss {float(logs['loss']):.4g}", True
            self._show()

    def on_evaluate(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        name = (args.metric_for_best_model or "loss").removeprefix("eval_")
        score = kwargs.get("metrics", {}).get(f"eval_{name}")
        if score is None or not self.is_training:  # what comes after is of the model that was kept
            return
        is_better = self.best is None or (score > self.best if args.greater_is_better else score < self.best)
        self.best = score if is_better else self.best
        self.scored = f"{name} {score:.4g}, best {self.best:.4g}"
        if self.bar is None and state.is_world_process_zero:
            seconds = (time.monotonic() - self.start[0]) / max(1, state.global_step - self.start[1])
            left = f"{format_duration(seconds * (state.max_steps - state.global_step))} left"
            told = ", ".join(filter(None, [self.scored, self.loss if self.is_loss_new else "", left]))
            self.is_loss_new = False
            print(f"step {state.global_step:,} of {state.max_steps:,}: {told}", flush=True)
        self._show()

    def on_train_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.is_training = False
        if self.bar is not None:
            self.bar.close()
        if state.is_world_process_zero and (told := why_it_stopped(args, state)):
            print(told, flush=True)

    def _show(self) -> None:
        if self.bar is not None:
            self.bar.set_description_str("  ".join(filter(None, [self.scored, self.loss])))


def why_it_stopped(args: Any, state: TrainerState) -> str | None:
    """What is to be said of a training that its patience has ended."""
    patience, best = getattr(args, "early_stopping_patience", None), state.best_global_step
    if patience is None or best is None or state.global_step >= state.max_steps:
        return None
    later = {entry["step"] for entry in state.log_history if "eval_runtime" in entry or "eval_loss" in entry}
    if sum(step > best for step in later) < patience:
        return None
    name = (args.metric_for_best_model or "loss").removeprefix("eval_")
    evaluations = "an evaluation" if patience == 1 else f"{patience} evaluations"
    return f"stopped: {evaluations} without a better {name}; kept that of step {best:,}"


class Forecast(TrainerCallback):
    """Says, once some steps have been timed, how long a training takes."""

    def __init__(self) -> None:
        self.start: tuple[float, int] | None = None
        self.is_told = False

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        now, step = time.monotonic(), state.global_step
        if self.start is None:  # the first step takes longer
            self.start = now, step
        elif not self.is_told and (now - self.start[0] > 5 or step - self.start[1] == 50):
            self.is_told = True
            seconds = (now - self.start[0]) / (step - self.start[1])
            left = state.max_steps - step
            logger.info(
                f"{left:,} steps are to come, of {seconds:.2f} s each: about {format_duration(left * seconds)}, "
                "evaluations not counted."
            )


class StopAtStep(TrainerCallback):
    """Saves a checkpoint and ends the training at the next step once `wanted` is set."""

    def __init__(self) -> None:
        self.wanted = False

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.wanted:
            if args.save_total_limit == 1:  # the Trainer would delete at the end what is not the best model
                args.save_total_limit = 2
            control.should_save = control.should_training_stop = True


@contextmanager
def stopped_by_interrupt(stop: StopAtStep) -> Iterator[None]:
    """Within, the first Ctrl-C ends the training at the next step; the second one ends everything at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: Any) -> None:
        if stop.wanted:
            raise KeyboardInterrupt
        stop.wanted = True

    earlier = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, earlier)


def plot_training(
    file: str | Path, log: Sequence[dict[str, float]], metric: str | None, is_smoothed: bool = False
) -> bool:
    """
    Draw the loss, the score and the learning rate of a training over its steps.

    Args:
        file (`str` or `Path`): the picture to write.
        log (`list[dict]`): the Trainer's `log_history`.
        metric (`str`, *optional*): the score that the best model is chosen by.
        is_smoothed (`bool`, *optional*, defaults to `False`): whether labels were smoothed in training.

    Returns:
        `bool`: whether there was something to draw.
    """
    from matplotlib.figure import Figure

    score = (metric or "loss").removeprefix("eval_")
    training = f"training, with dropout{' and smoothing' if is_smoothed else ''}"
    curves = {"loss": {training: "loss", "validation": "eval_loss"}, "learning rate": {"": "learning_rate"}}
    if score != "loss":
        curves = {"loss": curves.pop("loss"), score: {"validation": f"eval_{score}"}} | curves
    points = {
        (title, label): [(entry["step"], float(entry[name])) for entry in log if name in entry]
        for title, names in curves.items()
        for label, name in names.items()
    }
    titles = [title for title in curves if any(of_it for (name, _), of_it in points.items() if name == title)]
    if not titles:
        return False
    figure = Figure(figsize=(3.4 * len(titles), 2.6), dpi=150, layout="constrained")
    for axes, title in zip(figure.subplots(1, len(titles), squeeze=False)[0], titles, strict=True):
        for (name, label), of_it in points.items():
            if name == title and of_it:
                axes.plot(*zip(*of_it, strict=True), label=label, marker="." if len(of_it) < 30 else None)
        axes.set(title=title, xlabel="step")
        axes.spines[["top", "right"]].set_visible(False)
        if len(axes.lines) > 1:
            axes.legend(frameon=False, fontsize=7)
    figure.savefig(file)
    return True
