"""The software that exported files must run in: llama.cpp and ONNX Runtime, as these tests drive them."""
import ctypes

import numpy as np


def log_softmax(x):
    x = x.astype(np.float64)
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def kl(reference, got):
    p, q = log_softmax(reference), log_softmax(got)
    return float((np.exp(p) * (p - q)).sum(-1).mean())


# The library keeps the pointer for the rest of the process, so the callback must live as long.
QUIET = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda level, text, data: None)


class Llama:
    """A GGUF file in llama.cpp: float32 cache, no flash attention, so that nothing but the weights' types rounds."""

    def __init__(self, path, context=128):
        import llama_cpp
        self.lib = llama_cpp
        llama_cpp.llama_backend_init()
        llama_cpp.llama_log_set(ctypes.cast(QUIET, llama_cpp.llama_log_callback), ctypes.c_void_p(0))
        settings = llama_cpp.llama_model_default_params()
        settings.n_gpu_layers = 0
        self.model = llama_cpp.llama_load_model_from_file(str(path).encode(), settings)
        assert self.model, f"llama.cpp does not load {path}"
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = context
        params.type_k = params.type_v = 0
        params.flash_attn_type = 0
        params.n_threads = params.n_threads_batch = 2
        self.context = llama_cpp.llama_new_context_with_model(self.model, params)
        self.vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))

    def decode(self, ids, start=0):
        batch = self.lib.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, start + i, 1, 1
            batch.seq_id[i][0] = 0
        assert self.lib.llama_decode(self.context, batch) == 0
        rows = [np.ctypeslib.as_array(self.lib.llama_get_logits_ith(self.context, i), (self.vocab,)).copy() for i in range(len(ids))]
        self.lib.llama_batch_free(batch)
        return np.stack(rows)

    def logits(self, rows):
        out = []
        for row in rows:
            self.lib.llama_memory_clear(self.lib.llama_get_memory(self.context), True)
            out.append(self.decode(row))
        return np.concatenate(out)

    def tokenize(self, text):
        vocab, data = self.lib.llama_model_get_vocab(self.model), text.encode()
        room = (self.lib.llama_token * (len(data) + 8))()
        count = self.lib.llama_tokenize(vocab, data, len(data), room, len(room), False, False)
        return list(room[:count])

    def close(self):
        self.lib.llama_free(self.context)
        self.lib.llama_free_model(self.model)


def in_llama(path, rows, context=128):
    llama = Llama(path, context)
    got = llama.logits(rows)
    llama.close()
    return got


class Onnx:
    def __init__(self, folder, **options):
        import onnxruntime
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = 2
        settings.log_severity_level = 3
        for key, value in options.items():
            setattr(settings, key, value)
        self.session = onnxruntime.InferenceSession(str(folder / "model.onnx"), settings, providers=["CPUExecutionProvider"])
        self.past = [i for i in self.session.get_inputs() if i.name.startswith("past_key_values")]

    def empty(self, batch):
        return {i.name: np.zeros((batch, i.shape[1], 0, i.shape[3]), np.float32) for i in self.past}

    def run(self, ids, mask, positions, cache):
        out = self.session.run(None, {"input_ids": ids, "attention_mask": mask, "position_ids": positions, **cache})
        names = [o.name.replace("present", "past_key_values") for o in self.session.get_outputs()]
        return out[0], dict(zip(names[1:], out[1:]))

    def prefill(self, row):
        ids = np.array([row], np.int64)
        return self.run(ids, np.ones_like(ids), np.arange(len(row))[None], self.empty(1))[0][0]

    def stepwise(self, row, first=1):
        """The first ids together, the others one by one through the cache."""
        cache, rows, done = self.empty(1), [], 0
        for count in [first] + [1] * (len(row) - first):
            ids = np.array([row[done:done + count]], np.int64)
            done += count
            logits, cache = self.run(ids, np.ones((1, done), np.int64), np.arange(done - count, done)[None], cache)
            rows.append(logits[0])
        return np.concatenate(rows)

    def left_padded(self, rows):
        """All rows in one batch, padded on the left; the last id of each is fed through the cache."""
        width = max(map(len, rows))
        ids = np.array([[0] * (width - len(r)) + r for r in rows], np.int64)
        mask = np.array([[0] * (width - len(r)) + [1] * len(r) for r in rows], np.int64)
        positions = np.maximum(mask.cumsum(-1) - 1, 0)
        first, cache = self.run(ids[:, :-1], mask[:, :-1], positions[:, :-1], self.empty(len(rows)))
        last, _ = self.run(ids[:, -1:], mask, positions[:, -1:], cache)
        both = np.concatenate([first, last], 1)
        return np.concatenate([both[i, width - len(r):] for i, r in enumerate(rows)])
