"""Folders and hub names: a published model into one of ours, and one of ours into a folder that their libraries open.

Only safetensors are read. A `pytorch_model.bin` is a pickle: opening one can run whatever its author wrote into it.
"""

import json
import re
from pathlib import Path

from safetensors.torch import save
from torch import Tensor, nn

from llmcourse.bert import Bert, PreTrainingBert
from llmcourse.files import read_text, write_atomically
from llmcourse.interop.forms import describe, form_of, from_theirs, to_theirs
from llmcourse.interop.tokenizer_files import save_tokenizer
from llmcourse.models import EncoderDecoder
from llmcourse.tokenizers import Tokenizer
from llmcourse.weights import load_tensors

WEIGHTS, SHARDS, PICKLE = "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"
HUB_NAME = r"[\w.-]+(/[\w.-]+)?"
SPECIAL_NAMES = {  # what their tokenizers call a special token
    "pad_token": ("[PAD]", "<pad>"), "cls_token": ("[CLS]",), "sep_token": ("[SEP]",), "mask_token": ("[MASK]",),
    "unk_token": ("[UNK]", "<unk>"), "bos_token": ("<s>", "[BOS]", "<bos>"), "eos_token": ("</s>", "[EOS]", "<eos>", "<end>"),
}  # fmt: skip


def load_pretrained(name: Path | str, kind: type | None = None) -> nn.Module:
    """The model of ours with the weights of a published one, ready to use.

    name: a folder with `config.json` and safetensors; or the name of a model on the hub, such as "gpt2", which the library
        `huggingface_hub` downloads and keeps. kind: `Bert` to take a BERT's encoder without its heads.

    Raises ValueError when a file is missing, is a pickle, or holds another model; it names every tensor that does not fit.
    """
    find = _in_folder(Path(name)) if Path(name).is_dir() else _on_hub(str(name))
    description = _described(_must(find, "config.json", name))
    if (path := find(WEIGHTS)) is not None:
        tensors = load_tensors(path)[0]
    elif (path := find(SHARDS)) is not None:
        tensors = _shards(find, _described(path), name)
    elif find(PICKLE) is not None:
        raise ValueError(
            f"{name} holds its weights as {PICKLE}, a pickle, which can run code when it is opened; "
            f"take a version with {WEIGHTS}, or ask its author for one"
        )
    else:
        raise ValueError(f"{name} holds no {WEIGHTS}")
    return from_theirs(tensors, description, kind, name)


def _shards(find, index: dict, name: Path | str) -> dict[str, Tensor]:
    """The tensors of a model that is cut into several files."""
    tensors: dict[str, Tensor] = {}
    files = index.get("weight_map")
    if not isinstance(files, dict) or not all(isinstance(file, str) for file in files.values()):
        raise ValueError(f"{name}: the index {SHARDS} has no weight_map from tensors to files; take it anew")
    for file in sorted(set(files.values())):
        if Path(file).name != file or not file.endswith(".safetensors"):
            raise ValueError(f"{name}: the index names the file {file!r}; only safetensors beside it are read")
        tensors |= load_tensors(_must(find, file, name))[0]
    return tensors


def _described(path: Path) -> dict:
    """What a JSON file describes. Raises ValueError when it is none, or describes nothing."""
    try:
        found = json.loads(read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error}); take the file that belongs to the weights") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds a {type(found).__name__}, no fields; take the file that belongs to the weights")
    return found


def _must(find, file: str, name: Path | str) -> Path:
    found = find(file)
    if found is None:
        raise ValueError(f"{name} holds no {file}; give a folder with {file} and {WEIGHTS}, or a name on the hub")
    return found


def _in_folder(folder: Path):
    return lambda file: folder / file if (folder / file).is_file() else None


def _on_hub(name: str):
    """Files of a model on the hub: downloaded once, then kept by the library, which also decides what offline means."""
    if not re.fullmatch(HUB_NAME, name):
        raise ValueError(f"there is no folder {name}, and no model on the hub can be called so")
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError
    except ImportError:
        raise ValueError("loading by name needs the library: pip install huggingface_hub") from None

    def find(file: str) -> Path | None:
        try:
            return Path(hf_hub_download(name, file))
        except LocalEntryNotFoundError:
            raise ValueError(
                f"{name}/{file} is not on this machine, and the hub cannot be reached; give a folder, or go online once"
            ) from None
        except EntryNotFoundError:
            return None
        except HfHubHTTPError as error:
            raise ValueError(
                f"the hub does not give out {name} ({error}); is the name right, and is it public?"
            ) from None

    return find


def push(model: nn.Module, folder: Path | str, tokenizer: Tokenizer | None = None, *, card: str | None = None) -> None:
    """Write a model of this course so that `AutoModel`, `AutoTokenizer` and `pipeline` open the folder.

    tokenizer: ours, of the same vocabulary; special tokens with the usual names get their roles, and texts for a BERT are
        framed by [CLS] and [SEP]. card: the text of the model card, written as README.md.

    Raises ValueError when the model or the tokenizer has no form of theirs, or when they do not belong together.
    """
    folder, description = Path(folder), describe(model)
    if tokenizer is not None:
        description |= _push_tokenizer(tokenizer, model, folder)
    write_atomically(folder / "config.json", json.dumps(description, indent=2).encode())
    write_atomically(folder / WEIGHTS, save(_without_repeats(model), {"format": "pt"}))
    if card is not None:
        write_atomically(folder / "README.md", card.encode())


def _push_tokenizer(tokenizer: Tokenizer, model: nn.Module, folder: Path) -> dict[str, int]:
    """Write the tokenizer's files, and return what the model's config has to know of it: where a text begins and ends."""
    if len(tokenizer) > model.config.n_vocab:
        raise ValueError(f"the tokenizer has {len(tokenizer)} tokens and the model knows {model.config.n_vocab}")
    roles, is_bert = _roles(tokenizer), isinstance(model, Bert | PreTrainingBert)
    frame = ("[CLS]", "[SEP]") if is_bert and {"cls_token", "sep_token"} <= roles.keys() else None
    save_tokenizer(tokenizer, folder, frame)
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": model.config.context,
                "clean_up_tokenization_spaces": False, "split_special_tokens": False}  # fmt: skip
    if is_bert:
        settings["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    write_atomically(folder / "tokenizer_config.json", json.dumps(settings | roles, indent=2).encode())
    known = {f"{role}_id": tokenizer.special_id(roles[role]) for role in ("bos_token", "eos_token") if role in roles}
    if isinstance(model, EncoderDecoder) and "bos_token_id" in known:
        known["decoder_start_token_id"] = known["bos_token_id"]
    return known


def _roles(tokenizer: Tokenizer) -> dict[str, str]:
    """Which role each special token with a usual name has."""
    found = {
        role: next((name for name in names if name in tokenizer.special_tokens), None)
        for role, names in SPECIAL_NAMES.items()
    }
    return {role: name for role, name in found.items() if name}


def _without_repeats(model: nn.Module) -> dict[str, Tensor]:
    """Their tensors, each stored once; where nothing is tied, their library expects every one of them in the file."""
    tied = model.config.tied
    repeats = {entry.theirs for entry in form_of(model)[1].entries(model) if tied and entry.same_as}
    weights = to_theirs(model).items()
    return {name: one.detach().cpu().contiguous().clone() for name, one in weights if name not in repeats}
