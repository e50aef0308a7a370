"""The IP-Adapter that stage image-prompt writes is one that the engine takes."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from animatic.engine.device import default_plan  # noqa: E402
from animatic.engine.image_prompt import load_image_prompt  # noqa: E402
from animatic.engine.parts import load_parts  # noqa: E402
from animatic.engine.training.architecture import build_untrained  # noqa: E402
from animatic.engine.training.image_prompt import (  # noqa: E402
    ImagePromptLayers,
    References,
    build_image_encoder,
)
from animatic.engine.training.run import Run  # noqa: E402
from animatic.engine.training.train import STAGES  # noqa: E402
from PIL import Image  # noqa: E402


def test_a_trained_adapter_is_the_engines(tmp_path, small_recipe):
    base = tmp_path / "base"
    build_untrained(base, tiny=True)
    recipe = small_recipe(4)
    recipe["data"] = {"stills": 1, "clips": 0, "places": {"figures": 0.5}}
    recipe["image-encoder"] = {"side": 32, "width": 32, "layers": 2}
    run = Run(tmp_path / "run", recipe, base=base)
    for stage in ("data", "encode", "image-prompt"):
        STAGES[stage](run)
    made = tmp_path / "made"
    run.export(made)
    prompt = load_parts(made, default_plan("cpu"), lambda done, of: None).image_prompt()

    # The encoder sees a picture as it was taught to.
    stills = torch.randint(0, 256, (1, 3, 48, 48), generator=torch.manual_seed(0))
    picture = Image.fromarray(stills[0].permute(1, 2, 0).byte().numpy())
    with torch.no_grad():
        seen = run.part("image_encoder").eval()(References(32, "cpu")(stills)).image_embeds
        tokens = prompt.projection(seen)
        assert torch.allclose(prompt.tokens(picture, 1), tokens, atol=0.05)


def test_each_layer_comes_back_where_it_was(tmp_path):
    folder = tmp_path / "base"
    build_untrained(folder, tiny=True)
    run = Run(tmp_path, {}, base=folder)
    layers = ImagePromptLayers(run.part("unet"), 32)
    for parameter in layers.parameters():
        torch.nn.init.normal_(parameter)
    layers.write(folder / "ip_adapter.safetensors")
    again = ImagePromptLayers(run.part("unet"), 32)
    again.read(folder / "ip_adapter.safetensors")
    for mine, read in zip(layers.parameters(), again.parameters(), strict=True):
        assert torch.allclose(read, mine, atol=5e-3)
    build_image_encoder(32, 32, 1).save_pretrained(folder / "image_encoder")
    unet = load_parts(folder, default_plan("cpu"), lambda done, of: None).unet
    paths = {"encoder": folder / "image_encoder", "adapter": folder / "ip_adapter.safetensors"}
    loaded = load_image_prompt(paths, unet, default_plan("cpu")).processors
    for name, mine in zip(layers._names, layers.attention, strict=True):
        theirs = loaded[f"{name}.processor"]
        assert torch.allclose(theirs.to_k_ip[0].weight, mine.to_k_ip[0].weight, atol=5e-3)
        assert torch.allclose(theirs.to_v_ip[0].weight, mine.to_v_ip[0].weight, atol=5e-3)
