"""The small model's tokenizer: CLIP's kind, with a vocabulary of its own."""

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

from tokenizers import Regex, pre_tokenizers
from transformers import CLIPTokenizer

from .captions import vocabulary_corpus

# Copied from CLIPTokenizer, which builds exactly these steps around the vocabulary it is given.
_CLIP_WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)


def _learn_merges(corpus: Iterable[str], count: int) -> list[tuple[str, str]]:
    """The ``count`` most frequent pairs, one after another, ties broken by spelling.

    The tokenizers library's own trainer breaks ties by chance, and then no two runs agree on ids.
    Source: Sennrich et al. 2016, section 3.2.
    """
    split = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_CLIP_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    found = Counter(word for text in corpus for word, _ in split.pre_tokenize_str(text.lower()))
    words = {word: [*word[:-1], word[-1] + "</w>"] for word in sorted(found)}
    merges: list[tuple[str, str]] = []
    while len(merges) < count:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, pieces in words.items():
            for pair in pairwise(pieces):
                pairs[pair] += found[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        for pieces in words.values():
            at = 0
            while at < len(pieces) - 1:
                if (pieces[at], pieces[at + 1]) == best:
                    pieces[at : at + 2] = ["".join(best)]
                at += 1
    return merges


def build_tokenizer(vocabulary: int, length: int) -> CLIPTokenizer:
    """A CLIP tokenizer with its own byte-level BPE vocabulary of at most ``vocabulary``, that reads
    texts of up to ``length`` tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    # Each byte alone, each byte that ends a word, and two special tokens come before the merges.
    merges = _learn_merges(vocabulary_corpus(), vocabulary - 2 * len(alphabet) - 2)
    tokens = alphabet + [byte + "</w>" for byte in alphabet] + ["".join(pair) for pair in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={token: index for index, token in enumerate(dict.fromkeys(tokens))},
        merges=merges,  # type: ignore[arg-type]  # pairs are taken; its annotation forgets them
        model_max_length=length,
    )
