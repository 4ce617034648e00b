"""What a model is for, as a peft config has it: task_type, or auto_mapping where there is none."""

from collections.abc import Collection, Iterable
from typing import Any

from torch import nn

# By the end of a class's name in transformers: the task, and the names that peft adds to modules_to_save for
# it.
TASKS: dict[str, tuple[str, tuple[str, ...]]] = {
    "ForCausalLM": ("CAUSAL_LM", ()),
    "LMHeadModel": ("CAUSAL_LM", ()),
    "ForConditionalGeneration": ("SEQ_2_SEQ_LM", ()),
    "ForSequenceClassification": ("SEQ_CLS", ("classifier", "score")),
    "ForTokenClassification": ("TOKEN_CLS", ("classifier", "score")),
    "ForQuestionAnswering": ("QUESTION_ANS", ("qa_outputs",)),
}


def told_of(model: nn.Module, names: Iterable[str], whole: Collection[str]) -> dict[str, Any]:
    """Both settings. names: of all modules of the model; whole: of the layers that are saved whole.

    Without a task peft takes the model as it is, and its AutoPeftModel the class of auto_mapping.
    """
    kind = type(model)
    mapping = {"base_model_class": kind.__name__, "parent_library": kind.__module__}
    task = _task(model, names, whole)
    return {"task_type": task, "auto_mapping": None if task else mapping}


def _task(model: nn.Module, names: Iterable[str], whole: Collection[str]) -> str | None:
    # A class of the user's own may be one of these.
    kinds = [kind for kind in type(model).__mro__ if kind.__module__.startswith("transformers.")]
    # Of a task peft's model passes on what reads text alone.
    if not kinds or getattr(model, "main_input_name", None) != "input_ids":
        return None
    end = next((end for end in TASKS if kinds[0].__name__.endswith(end)), "")
    task, heads = TASKS.get(end, (None, ()))
    config: Any = getattr(model, "config", None)
    if task == "SEQ_2_SEQ_LM" and not getattr(config, "is_encoder_decoder", False):
        return None
    # A head of the base, or one with an adapter on it, would be looked for whole in the file.
    saved = [name for name in names if name.endswith(heads)] if heads else []
    return task if set(saved) <= set(whole) else None
