"""Stage `distill`: two steps by distribution matching with an adversarial loss (DMD, DMD2; paper, section 3.3).

Student, fake score and teacher are the same network. The adversary looks at decoded pixels: on latents, at this
size, it makes tiles at the latent's pitch. Nothing is shipped that fails the lattice and autocorrelation gates.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...models import measures
from ...models.blazeedit.schedule import add_noise, x0_from_epsilon
from ...models.blazeedit.tasks import task
from .codec import psnr
from .diffusion import FinetuneStage, x0_loss
from .maps import region_psnr

SHARES = {"remove": 0.35, "outpaint": 0.35, "tone": 0.1, "relight": 0.12, "sticker": 0.08}
FILLS = (
    "remove",
    "outpaint",
)  # what two steps are for; the other tasks have one answer, and only have to stay
MOST_LOST, MOST_LATTICE = 0.3, 1.3  # dB that two steps may cost against one; tiles at the latent's pitch
LATER_STEP = 0.5  # the second time of the two-step sampler
# what may ship of the way from teacher to student, in weights: the farthest that passes the gates
# (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models")
WAYS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)


class PatchCritic(nn.Module):
    """A patch discriminator on pixels: four strided convolutions, one logit per 8x8 cell of the hole."""

    def __init__(self, width: int = 48):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(4, width, 4, 2, 1), nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, 2, 1), nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 2 * width, 4, 2, 1), nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 1, 3, 1, 1),
        )  # fmt: skip

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """image: [b, 3, h, w], mask: [b, h, w]. Returns logits [b, h/8, w/8]."""
        return self.net(torch.cat([image - 0.5, mask[:, None]], dim=1))[:, 0]


class DistillStage(FinetuneStage):
    """The student learns x0 from z_1 and from its own renoised first step; regression keeps it on the data."""

    name = "distill"
    roles = {"generator": (1.0, 2), "critic": (2.0, 1)}

    def __init__(self, config, sources, store, *, dmd=0.35, adversarial=0.08, regression=1.0, shares=None):
        super().__init__(config, sources, store, shares=shares or SHARES)
        self.weights = {"dmd": dmd, "adversarial": adversarial, "regression": regression}
        teacher = [copy.deepcopy(self.model.condition), copy.deepcopy(self.model.denoiser)]
        self.teacher = nn.ModuleList(teacher).requires_grad_(False)
        self.fake = copy.deepcopy(self.model.denoiser)
        self.critic = PatchCritic()
        self.fill_taus = [task(name).tau for name in FILLS]
        for part in ("condition", "denoiser"):
            store.load_part(f"distilled_{part}", getattr(self.model, part))

    def parts(self):
        return {"distilled_condition": self.model.condition, "distilled_denoiser": self.model.denoiser}

    def role_parameters(self, role):
        modules = (
            [self.model.condition, self.model.denoiser] if role == "generator" else [self.fake, self.critic]
        )
        return [p for m in modules for p in m.parameters()]

    def score(
        self, denoiser: nn.Module, features: Tensor, noisy: Tensor, t: Tensor, base: Tensor | None
    ) -> Tensor:
        """x0 by a network that shares the student's wiring."""
        out = denoiser(torch.cat([noisy, features] + ([] if base is None else [base]), dim=1), t).float()
        if base is not None:
            out = out + base
        if self.model.config.prediction == "epsilon":
            out = x0_from_epsilon(self.model.config.schedule, noisy, out, t)
        return out

    def student(
        self, features: Tensor, base: Tensor | None, shape: torch.Size, device
    ) -> tuple[Tensor, Tensor]:
        """x0 at a random one of the two steps, the first of them without gradient. Returns it and its time."""
        ones = torch.ones(shape[0], device=device)
        noise = torch.randn(shape, device=device)
        first = add_noise(self.model.config.schedule, torch.zeros(shape, device=device), noise, ones)
        if torch.rand(()) < 0.5:
            return self.score(self.model.denoiser, features, first, ones, base), ones
        with torch.no_grad():
            clean = self.score(self.model.denoiser, features, first, ones, base)
        t = LATER_STEP * ones
        noisy = add_noise(self.model.config.schedule, clean, torch.randn_like(clean), t)
        return self.score(self.model.denoiser, features, noisy, t, base), t

    def forward(self, role, x, mask, y, tau, guess):
        base = self.guess_latent(guess)
        clean = self.settled(self.encode(y), x, mask, tau, base)
        seen, mask = mask, mask * self.is_fill(tau)[:, None, None]
        with torch.set_grad_enabled(role == "generator"):
            features = self.model.features(x, seen, tau)
            made, _ = self.student(features, base, clean.shape, x.device)
        if role == "critic":
            return self.critic_loss(made, clean, x, seen, mask, y, tau, base)
        return self.generator_loss(made, clean, x, seen, mask, tau, base)

    def is_fill(self, tau: Tensor) -> Tensor:
        """1 for the pairs of removal and outpainting, else 0."""
        return sum((tau - value).abs() < 1e-3 for value in self.fill_taus).float()

    def teacher_features(self, x: Tensor, mask: Tensor, tau: Tensor) -> Tensor:
        return self.teacher[0](torch.cat([x - 0.5, (mask * tau[:, None, None])[:, None]], dim=1))

    def settled(self, clean, x, mask, tau, base):
        """The truth for fills; for every other task what the teacher makes in one step from zero noise."""
        with torch.no_grad():
            ones, zero = torch.ones(len(x), device=x.device), torch.zeros_like(clean)
            start = add_noise(self.model.config.schedule, zero, zero, ones)
            taught = self.score(self.teacher[1], self.teacher_features(x, mask, tau), start, ones, base)
        return torch.where(self.is_fill(tau)[:, None, None, None] > 0, clean, taught)

    def critic_loss(self, made, clean, x, seen, mask, y, tau, base):
        """The fake score follows the student's distribution; the patch critic tells decoded fills from photographs."""
        features = self.teacher_features(x, seen, tau)
        t = 0.05 + 0.9 * torch.rand(len(x), device=x.device)
        noisy = add_noise(self.model.config.schedule, made, torch.randn_like(made), t)
        score = (self.score(self.fake, features, noisy, t, base) - made).square().mean()
        with torch.no_grad():
            real, fake = (self.paste(z, mask, y) for z in (clean, made))
        cells = F.max_pool2d(mask[:, None], 8)[:, 0]
        hinge = F.relu(1 - self.critic(real, mask)) + F.relu(1 + self.critic(fake, mask))
        adversary = (hinge * cells).sum() / cells.sum().clamp_min(1)
        return {"loss": score + adversary, "score": score, "adversary": adversary}

    def generator_loss(self, made, clean, x, seen, mask, tau, base):
        with torch.no_grad():
            features = self.teacher_features(x, seen, tau)
            t = 0.1 + 0.85 * torch.rand(len(x), device=x.device)
            noisy = add_noise(self.model.config.schedule, made, torch.randn_like(made), t)
            real = self.score(self.teacher[1], features, noisy, t, base)
            fake = self.score(self.fake, features, noisy, t, base)
            direction = (fake - real) / (made - real).abs().mean((1, 2, 3), keepdim=True).clamp_min(1e-3)
        cells = F.adaptive_avg_pool2d(mask[:, None], made.shape[-2:])
        matching = (
            0.5 * (cells * (made - (made - direction).detach()).square()).sum() / cells.sum().clamp_min(1)
        )
        matching = matching / made.shape[1]
        weight = F.max_pool2d(mask[:, None], 8)[:, 0]
        logits = self.critic(self.paste(made, mask, x), mask)
        adversarial = -(logits * weight).sum() / weight.sum().clamp_min(1)
        regression = x0_loss(made - clean, seen, self.model.autoencoder.std)
        terms = {"dmd": matching, "adversarial": adversarial, "regression": regression}
        return {"loss": sum(self.weights[k] * v for k, v in terms.items()), **terms}

    def paste(self, latent: Tensor, mask: Tensor, image: Tensor) -> Tensor:
        """The decoded hole in its surroundings: what a person sees."""
        out = self.model.autoencoder.decode(latent).float()
        return torch.where(mask[:, None] > 0, out, image)

    def validate(self):
        """The student's measures, and of the farthest mixture with the teacher that passes the gates its score."""
        student = {name: copy.deepcopy(module.state_dict()) for name, module in self.parts().items()}
        out, self.kept = self.measured(), student
        found = {**self.gated(out), "way": WAYS[0]}
        for way in WAYS[1:]:
            if "score" in found:
                break
            self.mix(student, way)
            mixed = self.measured()
            found = {**self.gated(mixed), "way": way}
            found |= {f"mixed_{k}": v for k, v in mixed.items() if k.startswith(FILLS)}
            self.kept = {name: copy.deepcopy(module.state_dict()) for name, module in self.parts().items()}
        self.mix(student, 1.0)
        return {**out, **found}

    def mix(self, student: dict[str, dict[str, Tensor]], way: float) -> None:
        """Sets the weights to teacher + way * (student - teacher)."""
        for (name, module), teacher in zip(self.parts().items(), self.teacher, strict=True):
            pairs = zip(teacher.state_dict().items(), student[name].values(), strict=True)
            module.load_state_dict({key: old.lerp(new, way) for (key, old), new in pairs})
        torch.clear_autocast_cache()  # it holds the weights as they were

    def to_keep(self):
        return self.kept

    def measured(self) -> dict[str, float]:
        device = self.model.autoencoder.mean.device
        out, self.last, regression = {}, [], []
        for name, held in self.held.items():
            x, mask, y, tau, guess = (t.to(device) for t in held)
            if name not in FILLS:
                out[f"{name}_kept"] = self.like_teacher(x, mask, tau, guess)
                continue
            for steps in (1, 2):
                latent = self.rollout(x, mask, tau, guess, steps=steps)
                regression.append(x0_loss(latent - self.encode(y), mask, self.model.autoencoder.std).item())
                made = self.model.autoencoder.decode(latent).float().clamp(0, 1)
                out[f"{name}_{steps}"] = (
                    (region_psnr(made, y, mask) - region_psnr(guess, y, mask)).mean().item()
                )
                out |= {f"{name}_{steps}_{k}": v for k, v in self.gates(made, y, mask).items()}
            self.last += [t[:8].cpu() for t in (x, guess, made, y)]
        out["regression"] = sum(regression) / len(regression)
        return out

    def gated(self, out: dict[str, float]) -> dict[str, float]:
        """The score, minus the gradient ratio of two-step fills; none, and so never kept, where they tile or lose."""
        fills = [name for name in self.held if name in FILLS]
        lost = max(out[f"{n}_1"] - out[f"{n}_2"] for n in fills)
        tiled = max(out[f"{n}_2_lattice"] for n in fills)
        if lost > MOST_LOST or tiled > MOST_LATTICE:
            return {}
        return {"score": -sum(out[f"{n}_2_gradient_ratio"] for n in fills) / len(fills)}

    def like_teacher(self, x, mask, tau, guess) -> float:
        """PSNR in dB between the student's and the teacher's one step, decoded."""
        made = self.rollout(x, mask, tau, guess, steps=1)
        taught = self.settled(made, x, mask, tau, self.guess_latent(guess))
        return (
            psnr(*(self.model.autoencoder.decode(z).float().clamp(0, 1) for z in (made, taught)))
            .mean()
            .item()
        )

    @staticmethod
    def gates(made: Tensor, truth: Tensor, mask: Tensor) -> dict[str, float]:
        """The means of what decides whether a distilled student may ship."""
        made, truth = (t.cpu().permute(0, 2, 3, 1).numpy() for t in (made, truth))
        rows = [
            measures.fill_measures(m, t, h)
            for m, t, h in zip(made, truth, mask.cpu().numpy() > 0, strict=True)
        ]
        return {
            k: sum(r[k] for r in rows) / len(rows) for k in ("gradient_ratio", "autocorrelation", "lattice")
        }
