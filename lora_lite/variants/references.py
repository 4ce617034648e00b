"""Where each formula comes from: papers, and the files of public implementations with their hashes.

peft's hashes are those of the files in its 0.21.2 release. AntiPaSTO's is that of the file's text as a public
index of repositories keeps it (25,235 characters): line endings, if it ever had others, would show as DRIFT
where the suite opens the references (pytest --online).
"""

from lora_lite.reference import Reference, SourceFile


def _peft(path: str, sha256: str) -> SourceFile:
    return SourceFile("huggingface/peft", f"src/peft/tuners/{path}", "v0.21.2", sha256)


_PEFT_LORA = _peft("lora/layer.py", "9a2688af69fd16cef94fdb08ab0e973b37d7b2a672e64ba2057a01df7e98b7d8")

LORA = Reference("2106.09685", ("LoRA: Low-Rank Adaptation of Large Language Models",), _PEFT_LORA)
PISSA = Reference(
    "2404.02948",
    ("PiSSA: Principal Singular Values and Singular Vectors Adaptation of Large Language Models",),
    _PEFT_LORA,
)
DORA = Reference(
    "2402.09353",
    ("DoRA: Weight-Decomposed Low-Rank Adaptation",),
    _peft("lora/dora.py", "2ff9d222eeada2ec82d6414ad2e0e46b17c6ccb76fc2cc0923a20c079ccf974c"),
)
DELORA = Reference(
    "2503.18225",
    (
        "DeLoRA: Decoupling Angles and Strength in Low-rank Adaptation",
        "Decoupling Angles and Strength in Low-rank Adaptation",
    ),
    _peft("delora/layer.py", "b86da0419d3e4d612249841eb904fe9c32eb653ff6905cad87df73c4fd084869"),
)
IA3 = Reference(
    "2205.05638",
    ("Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning",),
    _peft("ia3/layer.py", "10da0750dc3e24c6c8b784a21185d79e898e64411c2753cd4f72fcf387f36aa8"),
)
HRA = Reference(
    "2405.17484",
    ("Bridging The Gap between Low-rank and Orthogonal Adaptation via Householder Reflection Adaptation",),
    _peft("hra/layer.py", "4de93ab8c42ff83900263a0af069a10a1a12989cf092b4524b58f1183f52e278"),
)
EVA = Reference(
    "2410.07170",
    (
        "Parameter Efficient Fine-tuning via Explained Variance Adaptation",
        "One Initialization to Rule them All: Fine-tuning via Explained Variance Adaptation",
    ),
    _peft("lora/eva.py", "fde469da4b3cd7451bb811e67eebe2a06a89e17acf8fb0b41db0f3510a74d455"),
)
ANTIPASTO = Reference(
    "2601.07473",
    (
        "AntiPaSTO: Self-Supervised Honesty Steering via Anti-Parallel Representations",
        "AntiPaSTO: Self-Supervised Steering of Moral Reasoning",
    ),
    SourceFile(
        "wassname/AntiPaSTO",
        "antipasto/peft_utils/antipasto_adapter.py",
        "12233df6ec1cbc3811fa83d567c0f66fa5389739",
        "fbd8554174cedc004853289a30297444893b405289054a72c62ca02046287675",
    ),
)
FULL = Reference(
    "1810.04805",
    ("BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding",),
    SourceFile(
        "huggingface/peft",
        "src/peft/utils/other.py",
        "v0.21.2",
        "6b87957915ba399bfb6bbd57b9404aa12f0e9f4e27b19ef1b6c68ac052148f9b",
    ),
)
