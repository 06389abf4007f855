"""Losses, AdamW and the training loop in TensorFlow: the twins of `pretraining.py`, `optimisers.py` and `training.py`.

Batches are those of `data.py` and `masking.py`, tuples of torch tensors; `train` hands them over as numbers.

Letters: B batch, T positions, V vocabulary. A target of -100 does not count.
"""

import math
from collections.abc import Callable, Iterable, Iterator

import keras
import tensorflow as tf
from jaxtyping import Float, Int
from keras import ops

from llmcourse.data import IGNORED
from llmcourse.training import AnyBatch, Step, TrainConfig, TrainingDiverged

# Fields of TrainConfig.
ONLY_TORCH = ("optimiser", "accumulate", "precision", "compiled", "rate_shares", "checkpoint", "sharded")
Loss = Callable[[keras.layers.Layer, tuple[tf.Tensor, ...]], tf.Tensor]


def seed_everything(seed: int = 0) -> None:
    """The twin of `training.seed_everything`: what follows is the same each time, on one thread.

    Raises RuntimeError when TensorFlow has already computed on several: call it first.
    """
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    keras.utils.set_random_seed(seed)


def mean_surprise(logits: Float[tf.Tensor, "*batch V"], targets: Int[tf.Tensor, "*batch"]) -> Float[tf.Tensor, ""]:
    """The mean cross-entropy of the targets that count, in nats; 0 when none counts."""
    counts = ops.cast(ops.not_equal(targets, IGNORED), "float32")
    # Keras takes probabilities unless told that these are logits; it gives a target that does not count 0.
    each = keras.losses.sparse_categorical_crossentropy(targets, logits, from_logits=True, ignore_class=IGNORED)
    return ops.sum(each) / ops.maximum(ops.sum(counts), 1.0)


def next_token_loss(model: keras.layers.Layer, batch: tuple[tf.Tensor, ...]) -> Float[tf.Tensor, ""]:
    """The mean cross-entropy of the next tokens, in nats per token; batch is (tokens, targets)."""
    tokens, targets = batch
    return mean_surprise(model(tokens, training=True), targets)


def hidden_word_loss(
    model: keras.layers.Layer, hidden: Float[tf.Tensor, "B T C"], targets: Int[tf.Tensor, "B T"]
) -> Float[tf.Tensor, ""]:
    """The mean cross-entropy of the hidden words; only the states that have a target meet the vocabulary."""
    chosen = ops.not_equal(targets, IGNORED)
    return mean_surprise(model.masked_lm(tf.boolean_mask(hidden, chosen)), tf.boolean_mask(targets, chosen))


def masked_loss(model: keras.layers.Layer, batch: tuple[tf.Tensor, ...]) -> Float[tf.Tensor, ""]:
    """The mean cross-entropy of the hidden words, in nats each; batch is (tokens, segments, targets, swapped)."""
    tokens, segments, targets, _ = batch
    return hidden_word_loss(model, model.bert(tokens, segments, training=True), targets)


def next_sentence_loss(model: keras.layers.Layer, batch: tuple[tf.Tensor, ...]) -> Float[tf.Tensor, ""]:
    """The cross-entropy of the second sentence's label, in nats per pair; a guess costs ln 2 = 0.69."""
    tokens, segments, _, swapped = batch
    hidden = model.bert(tokens, segments, training=True)
    return mean_surprise(model.next_sentence(model.bert.pool(hidden)), swapped)


def pretraining_loss(model: keras.layers.Layer, batch: tuple[tf.Tensor, ...]) -> Float[tf.Tensor, ""]:
    """The sum of both, from one pass through the encoder; batch is (tokens, segments, targets, swapped)."""
    tokens, segments, targets, swapped = batch
    hidden = model.bert(tokens, segments, training=True)
    judged = mean_surprise(model.next_sentence(model.bert.pool(hidden)), swapped)
    return hidden_word_loss(model, hidden, targets) + judged


class AdamW(keras.optimizers.AdamW):
    """Keras's AdamW with epsilon where torch has it: m̂ / (√v̂ + ε), as in algorithm 1 of Kingma & Ba (2015).

    Keras computes α m / (√v + ε), the form at the end of their section 2. For √v̂ it adds ε / √(1 - β₂ᵗ) by that: at the
    first step with β₂ = 0.98 seven times as much, which shows at gradients as small as ε.
    """

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: keras.Variable) -> None:
        """Move one weight; Keras has decayed it already, and cut the gradient."""
        index, t = self._get_variable_index(variable), ops.cast(self.iterations + 1, variable.dtype)
        m, v = self._momentums[index], self._velocities[index]
        self.assign_add(m, (gradient - m) * (1 - self.beta_1))
        self.assign_add(v, (ops.square(gradient) - v) * (1 - self.beta_2))
        m_hat, v_hat = m / (1 - ops.power(self.beta_1, t)), v / (1 - ops.power(self.beta_2, t))
        self.assign_sub(variable, learning_rate * m_hat / (ops.sqrt(v_hat) + self.epsilon))


def adamw(model: keras.layers.Layer, config: TrainConfig) -> AdamW:
    """AdamW as this course uses it in torch: epsilon 1e-8 (Keras: 1e-7), vectors not decayed, long gradients cut."""
    optimiser = AdamW(
        config.rate,
        weight_decay=config.weight_decay,
        beta_1=config.betas[0],
        beta_2=config.betas[1],
        epsilon=1e-8,
        global_clipnorm=config.clip,
    )
    variables = model.trainable_variables
    optimiser.exclude_from_weight_decay(var_list=[variable for variable in variables if len(variable.shape) < 2])
    optimiser.build(variables)
    return optimiser


def train(model: keras.layers.Layer, batches: Iterable[AnyBatch], loss: Loss, config: TrainConfig) -> Iterator[Step]:
    """Train the twin in place, yielding after every step, with the schedule of `config`.

    Raises TrainingDiverged when the loss or its gradient is not finite, and ValueError when the batches run out or the
    config asks for something that only the torch loop has.
    """
    plain = TrainConfig(steps=1)
    for name in ONLY_TORCH:
        if getattr(config, name) != getattr(plain, name):
            raise ValueError(f"{name}={getattr(config, name)!r}: only llmcourse.training.train has this; leave it out")
    optimiser, stream = adamw(model, config), iter(batches)
    step = training_step(model, loss, optimiser)
    for number in range(config.steps):
        batch = next(stream, None)
        if batch is None:
            raise ValueError(f"the batches ran out at step {number + 1} of {config.steps}; pass an endless stream")
        rate = config.rate_at(number)
        optimiser.learning_rate.assign(rate)
        value, gradient = (part.numpy().item() for part in step(*(tf.constant(part.numpy()) for part in batch)))
        if not (math.isfinite(value) and math.isfinite(gradient)):
            raise TrainingDiverged(
                f"at step {number + 1} the loss is {value} and its gradient {gradient}, with a learning rate of "
                f"{rate:.2g}; try a third of the rate, a longer warm_up or a smaller clip"
            )
        yield Step(number + 1, value, rate, gradient)


def training_step(
    model: keras.layers.Layer, loss: Loss, optimiser: keras.optimizers.Optimizer
) -> Callable[..., tuple[tf.Tensor, tf.Tensor]]:
    """A function of a batch's tensors that moves the model once and returns the loss and the gradient's length.

    `tf.function` traces it once for each shape of a batch and then runs the graph without Python.
    """
    variables = model.trainable_variables

    @tf.function(autograph=False)
    def step(*batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            value = loss(model, batch)
        found = zip(tape.gradient(value, variables), variables, strict=True)
        # The gradient of looked-up rows comes as a list of rows, the same one several times; its length is that of the sum.
        moved = [(tf.convert_to_tensor(gradient), variable) for gradient, variable in found if gradient is not None]
        gradients = [gradient for gradient, _ in moved]
        optimiser.apply(gradients, [variable for _, variable in moved])
        return value, tf.linalg.global_norm(gradients)

    return step
