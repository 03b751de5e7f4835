"""How libraries name and lay out the weights of a network, as data.

::

    layout          θ ← W_l, b_l                        what is handed over
    TORCH           {l}.weight (out, in), {l}.bias      module.state_dict()
    SB3_…           the same, by fixed module names     model.policy.state_dict()
    FLAX            {l}/kernel (in, out), {l}/bias      module.init(...), nnx.to_pure_dict(...)
    HAIKU           {l}/w (in, out), {l}/b              transformed.init(...)
    EQUINOX         {l}.weight (out, in), {l}.bias      {keystr(path): leaf for path, leaf in tree_leaves_with_path(m)}
    KERAS           {l}[0] (in, out), {l}[1]            [layer.get_weights() for layer in model.layers]
    PLAIN           {l}.W (in, out), {l}.b, free        what refpg's own files hold

{l} is the name of a layer.  Which layer comes first is known only where a library counts its layers; otherwise the
caller names them in order.
"""

import re
from collections.abc import Collection
from typing import NamedTuple


class Layout(NamedTuple):
    """Which array, by its name in a library, is which part of θ.

    Change a record with ``_replace``: ``TORCH._replace(layers=("fc1", "fc2", "out"), free="log_std")``.

    Fields: ``name`` of the library, for messages; ``source``, what is handed over; ``separator`` joins the keys of
    nested dictionaries; ``weight`` and ``bias`` are the names of a layer's arrays, ``{}`` standing for the layer;
    ``transposed`` is True where the matrices are (out, in); ``numbered`` is the pattern of layers that the library
    counts, with groups ``stem`` and ``number`` (a missing number is 0), and ``first``, ``step`` how layers are named
    where there is nothing to follow; ``layers`` are the layers in order, where the caller names them; ``last`` are
    layers that follow the numbered ones; ``free`` is the name of the state-independent entries of φ, such as log σ,
    None if there are none; ``others`` are beginnings of names that belong to something else, such as a critic.

    Examples
    --------
    >>> TORCH.arrays_of("actor.0")
    ('actor.0.weight', 'actor.0.bias')
    >>> FLAX.arrays_of("params/Dense_0")
    ('params/Dense_0/kernel', 'params/Dense_0/bias')
    """

    name: str
    source: str
    separator: str
    weight: str
    bias: str
    transposed: bool
    numbered: str
    first: str
    step: int = 1
    layers: tuple[str, ...] | None = None
    last: tuple[str, ...] = ()
    free: str | None = None
    others: tuple[str, ...] = ()

    def arrays_of(self, layer: str) -> tuple[str, str]:
        """Return the names of a layer's W and b."""
        return self.weight.replace("{}", layer), self.bias.replace("{}", layer)

    def concerns(self, name: str) -> bool:
        """Whether an array is part of this network, as far as ``others`` says."""
        return not name.startswith(self.others)

    def new_layers(self, count: int) -> tuple[str, ...]:
        """Return the names of so many layers, where no arrays are there to follow."""
        if self.layers is not None:
            return self.layers
        numbered = range(count - len(self.last))
        return *(self.first.replace("{}", str(self.step * position)) for position in numbered), *self.last

    def layers_among(self, function: str, names: Collection[str]) -> tuple[str, ...]:
        """Return the layers in order: those named by the caller, or those that the library has counted.

        Parameters
        ----------
        function : str
            The caller, named in every message.
        names : collection of str
            The names of the arrays that concern the network.

        Returns
        -------
        tuple of str

        Raises
        ------
        ValueError
            If the numbered layers are of two networks, or two have the same number.

        Examples
        --------
        >>> TORCH.layers_among("f", ["10.weight", "10.bias", "2.weight", "2.bias"])
        ('2', '10')
        >>> TORCH.layers_among("f", ["actor.0.weight", "critic.0.weight"])
        Traceback (most recent call last):
            ...
        ValueError: f: layers are counted under 'actor.' and 'critic.', expected one network: say in the layout what \
belongs to something else, others=('critic.',)
        """
        if self.layers is not None:
            return self.layers
        endings = [pattern.removeprefix("{}") for pattern in (self.weight, self.bias)]
        candidates = {name.removesuffix(ending): None for ending in endings for name in names if name.endswith(ending)}
        found = [match for layer in candidates if (match := re.fullmatch(self.numbered, layer))]
        stems = sorted({match["stem"] for match in found})
        if len(stems) > 1:
            raise ValueError(
                f"{function}: layers are counted under {' and '.join(map(ascii, stems))}, expected one network: say in "
                f"the layout what belongs to something else, others=({', '.join(map(ascii, stems[1:]))},)"
            )
        by_number = {int(match["number"] or 0): match[0] for match in found}
        if len(by_number) < len(found):
            raise ValueError(
                f"{function}: layers {', '.join(sorted(ascii(match[0]) for match in found))} are not counted one by "
                f"one; name them in order in the layout, layers=(...)"
            )
        return *(by_number[number] for number in sorted(by_number)), *self.last


_NUMBER = r"(?P<number>[0-9]{1,6})"

TORCH = Layout(
    name="torch",
    source="module.state_dict()",
    separator=".",
    weight="{}.weight",
    bias="{}.bias",
    transposed=True,
    numbered=rf"(?P<stem>(?:.*\.)?){_NUMBER}",
    first="{}",
    step=2,
)

# Stable-Baselines3's MlpPolicy: of the arrays that do not concern the network nothing is read.  CnnPolicy, gSDE (a
# matrix log_std) and other extractors have other names or shapes and are refused.
SB3_DISCRETE = TORCH._replace(
    name="Stable-Baselines3, policy without log_std",
    source="model.policy.state_dict()",
    numbered=rf"(?P<stem>mlp_extractor\.policy_net\.){_NUMBER}",
    first="mlp_extractor.policy_net.{}",
    last=("action_net",),
    others=("mlp_extractor.value_net.", "value_net."),
)
SB3_CONTINUOUS = SB3_DISCRETE._replace(name="Stable-Baselines3, policy with log_std", free="log_std")
SB3_VALUE = SB3_DISCRETE._replace(
    name="Stable-Baselines3, values",
    numbered=rf"(?P<stem>mlp_extractor\.value_net\.){_NUMBER}",
    first="mlp_extractor.value_net.{}",
    last=("value_net",),
    others=("mlp_extractor.policy_net.", "action_net.", "log_std"),
)

FLAX = Layout(
    name="Flax",
    source="the parameters, nested dictionaries",
    separator="/",
    weight="{}/kernel",
    bias="{}/bias",
    transposed=False,
    numbered=rf"(?P<stem>(?:.*/)?(?:Dense_|layers_|layers/)){_NUMBER}",
    first="params/Dense_{}",
)
HAIKU = Layout(
    name="Haiku",
    source="the parameters, dictionaries of modules",
    separator="/",
    weight="{}/w",
    bias="{}/b",
    transposed=False,
    numbered=rf"(?P<stem>(?:.*/)?linear)(?:_{_NUMBER})?",
    first="mlp/~/linear_{}",
)
EQUINOX = Layout(
    name="Equinox",
    source="{jax.tree_util.keystr(path): leaf} of its arrays",
    separator="",
    weight="{}.weight",
    bias="{}.bias",
    transposed=True,
    numbered=rf"(?P<stem>.*\.layers)\[{_NUMBER}\]",
    first=".layers[{}]",
)
KERAS = Layout(
    name="Keras",
    source="[layer.get_weights() for layer in model.layers]",
    separator="/",
    weight="{}[0]",
    bias="{}[1]",
    transposed=False,
    numbered=rf"(?P<stem>)\[{_NUMBER}\]",
    first="[{}]",
)
PLAIN = Layout(
    name="refpg",
    source="a dictionary of arrays",
    separator=".",
    weight="{}.W",
    bias="{}.b",
    transposed=False,
    numbered=rf"(?P<stem>(?:.*\.)?layers)\[{_NUMBER}\]",
    first="layers[{}]",
)
