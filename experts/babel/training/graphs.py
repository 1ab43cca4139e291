"""The model as ONNX graphs: trunk segments with paged attention, gates and experts.

Attention serves R decode rows (one new token of a sequence each) and one prompt chunk of C rows in the same call; the
cache comes as pools of blocks, and only the new keys and values go out (see the package format in the docs).
"""
import numpy as np
from onnx import TensorProto, external_data_helper, helper

PAGE = 4096


class Graph:
    """Collects nodes and weights of one graph. Every method that adds a node returns the name of its output."""

    def __init__(self, name):
        self.name, self.nodes, self.weights, self.inputs, self.outputs = name, [], [], [], []

    def add(self, operator, inputs, outputs=None, domain="", **attributes):
        outputs = outputs or [f"{operator.lower()}_{len(self.nodes)}"]
        self.nodes.append(helper.make_node(operator, inputs, outputs, domain=domain, **attributes))
        return outputs[0]

    def weight(self, name, values):
        self.weights.append((name, np.ascontiguousarray(values, dtype=np.float32)))
        return name

    def ints(self, name, values):
        if all(existing[0] != name for existing in self.weights):
            self.weights.append((name, np.array(values, dtype=np.int64)))
        return name

    def input(self, name, dims, kind=TensorProto.FLOAT):
        self.inputs.append(helper.make_tensor_value_info(name, kind, dims))
        return name

    def output(self, name, dims):
        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, dims))

    def save(self, path):
        """Writes <path>.onnx and, for weights above 1 KB, <path>.bin with each tensor on its own page."""
        initializers, data = [], bytearray()
        for name, values in self.weights:
            kind = TensorProto.FLOAT if values.dtype == np.float32 else TensorProto.INT64
            tensor = helper.make_tensor(name, kind, values.shape, values.tobytes(), raw=True)
            if values.nbytes > 1024:
                data.extend(b"\0" * (-len(data) % PAGE))
                location = path.rsplit("/", 1)[-1] + ".bin"
                external_data_helper.set_external_data(tensor, location, offset=len(data), length=values.nbytes)
                tensor.ClearField("raw_data")
                data.extend(values.tobytes())
            initializers.append(tensor)
        graph = helper.make_graph(self.nodes, self.name, self.inputs, self.outputs, initializers)
        opsets = [helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10, producer_name="turnout")
        with open(path + ".onnx", "wb") as file:
            file.write(model.SerializeToString())
        if data:
            with open(path + ".bin", "wb") as file:
                file.write(data)


def norm(g, x, name, weight, output=None):
    return g.add("RMSNormalization", [x, g.weight(name, weight)], output and [output], axis=-1, epsilon=1e-5)


def scores(g, q, k, size):
    return g.add("FusedMatMul", [q, k], domain="com.microsoft", transB=1, alpha=size**-0.5)


def paged_inputs(g, heads, size, block):
    pool = ["blocks", heads, block, size]
    g.input("k_pool", pool)
    g.input("v_pool", pool)
    g.input("owner", ["blocks"], TensorProto.INT64)
    g.input("mask", ["blocks", 1, 1, block])
    g.input("decode_rows", [1], TensorProto.INT64)
    g.input("chunk_k_pool", ["chunk_pool", heads, block, size])
    g.input("chunk_v_pool", ["chunk_pool", heads, block, size])
    g.input("chunk_blocks", ["chunk_blocks"], TensorProto.INT64)
    g.input("chunk_past", [1], TensorProto.INT64)
    g.input("chunk_mask", [1, 1, 1, "past"])
    g.input("chunk_causal", [1, 1, "chunk", "chunk"])


def decode_attention(g, q, k, v, size):
    """One new token of each of R sequences over the blocks that they own: q, k, v [R,heads,1,size] -> [R,heads,1,size].

    Softmax in pieces: each block gives its maximum m, its sum and its weighted values; blocks of a row and the new token
    are put together under the maximum of the row, by scatter with max and add.
    """
    last, one = g.ints("axis_3", [3]), g.ints("axis_1", [1])
    block_q = g.add("Gather", [q, "owner"], axis=0)
    s = g.add("Add", [scores(g, block_q, "k_pool", size), "mask"])
    m = g.add("ReduceMax", [s, last], keepdims=1)
    e = g.add("Exp", [g.add("Sub", [s, m])])
    total, values = g.add("ReduceSum", [e, last], keepdims=1), g.add("MatMul", [e, "v_pool"])
    own = scores(g, q, k, size)
    rows = g.add("Unsqueeze", ["owner", one])
    top = g.add("ScatterND", [own, rows, m], reduction="max")
    scale = g.add("Exp", [g.add("Sub", [m, g.add("Gather", [top, "owner"], axis=0)])])
    own_scale = g.add("Exp", [g.add("Sub", [own, top])])
    sums = g.add("ScatterND", [own_scale, rows, g.add("Mul", [scale, total])], reduction="add")
    weighted = g.add("ScatterND", [g.add("Mul", [own_scale, v]), rows, g.add("Mul", [scale, values])], reduction="add")
    return g.add("Div", [weighted, sums])


def chunk_attention(g, q, k, v, size, heads):
    """C rows of one prompt over its cached blocks and over themselves: q, k, v [1,heads,C,size] -> [1,heads,C,size]."""
    zero, last, far = g.ints("axis_0", [0]), g.ints("axis_3", [3]), g.ints("far", [1 << 30])
    shape = g.ints("past_shape", [1, heads, -1, size])

    def past(pool):
        blocks = g.add("Gather", [pool, "chunk_blocks"], axis=0)
        return g.add("Reshape", [g.add("Transpose", [blocks], perm=[1, 0, 2, 3]), shape])

    before = g.add("Add", [scores(g, q, past("chunk_k_pool"), size), "chunk_mask"])
    own = g.add("Add", [scores(g, q, k, size), "chunk_causal"])
    weights = g.add("Softmax", [g.add("Concat", [before, own], axis=-1)], axis=-1)
    from_past = g.add("MatMul", [g.add("Slice", [weights, zero, "chunk_past", last]), past("chunk_v_pool")])
    from_own = g.add("MatMul", [g.add("Slice", [weights, "chunk_past", far, last]), v])
    return g.add("Add", [from_past, from_own])


def attention(g, x, qkv, out, cos, sin, heads, size):
    """x [N,hidden] -> attention output [N,hidden]; also the outputs k_new, v_new [N,hidden]."""
    zero, far = g.ints("axis_0", [0]), g.ints("far", [1 << 30])
    joined = g.add("MatMul", [x, g.weight("qkv", qkv)])
    g.add("Split", [joined], ["q_flat", "k_flat", "v_new"], axis=-1, num_outputs=3)
    tables = [g.weight("rotary_cos", cos), g.weight("rotary_sin", sin), "positions"]
    rotated = [g.add("RotaryEmbedding", [g.add("Unsqueeze", [name, zero]), *tables], num_heads=heads) for name in ("q_flat", "k_flat")]
    q = g.add("Squeeze", [rotated[0], zero])
    k = g.add("Squeeze", [rotated[1], zero], ["k_new"])
    decode_shape, chunk_shape = g.ints("decode_shape", [-1, heads, 1, size]), g.ints("chunk_shape", [1, -1, heads, size])
    flat = g.ints("flat", [-1, heads * size])

    def decoding(name):
        return g.add("Reshape", [g.add("Slice", [name, zero, "decode_rows", zero]), decode_shape])

    def chunk(name):
        rows = g.add("Reshape", [g.add("Slice", [name, "decode_rows", far, zero]), chunk_shape])
        return g.add("Transpose", [rows], perm=[0, 2, 1, 3])

    decoded = decode_attention(g, decoding(q), decoding(k), decoding("v_new"), size)
    prompt = chunk_attention(g, chunk(q), chunk(k), chunk("v_new"), size, heads)
    parts = [g.add("Reshape", [decoded, flat]), g.add("Reshape", [g.add("Transpose", [prompt], perm=[0, 2, 1, 3]), flat])]
    return g.add("MatMul", [g.add("Concat", parts, axis=0), g.weight("out", out)])


def segment(model, layer, block):
    """The trunk from the end of MoE layer `layer` - 1 to the input of MoE layer `layer`."""
    sizes, attend = model.sizes, model.attention[layer]
    heads, size = sizes.heads, sizes.hidden // sizes.heads
    g = Graph(f"trunk-{layer:02}")
    if layer == 0:
        g.input("ids", ["n"], TensorProto.INT64)
        x = g.add("Gather", [g.weight("embed", array(model.embed)), "ids"], axis=0)
    else:
        g.input("h", ["n", sizes.hidden])
        g.input("y", ["n", sizes.hidden])
        x = g.add("Add", ["h", "y"])
    g.input("positions", [1, "n"], TensorProto.INT64)
    paged_inputs(g, heads, size, block)
    normed = norm(g, x, "norm_1", array(model.norm1[layer].weight))
    added = attention(g, normed, array(attend.qkv), array(attend.out), array(attend.cos), array(attend.sin), heads, size)
    h = "h" if layer == 0 else "h_out"
    g.add("Add", [x, added], [h])
    norm(g, h, "norm_2", array(model.norm2[layer].weight), "hn")
    for name in (h, "hn", "k_new", "v_new"):
        g.output(name, ["n", sizes.hidden])
    return g


def head(model):
    """The trunk after the last MoE layer: the logits of the selected rows."""
    sizes = model.sizes
    g = Graph(f"trunk-{sizes.layers:02}")
    g.input("h", ["n", sizes.hidden])
    g.input("y", ["n", sizes.hidden])
    g.input("select", ["m"], TensorProto.INT64)
    x = g.add("Gather", [g.add("Add", ["h", "y"]), "select"], axis=0)
    g.add("MatMul", [norm(g, x, "norm", array(model.norm.weight)), g.weight("head", array(model.head))], ["logits"])
    g.output("logits", ["m", sizes.vocabulary])
    return g


def gate(model, layer):
    sizes = model.sizes
    g = Graph(f"gate-{layer:02}")
    g.input("x", ["n", sizes.hidden])
    g.add("MatMul", ["x", g.weight("gate", array(model.ffn[layer].gate))], ["logits"])
    g.output("logits", ["n", sizes.experts])
    return g


def expert(model, layer, index):
    """SwiGLU (Shazeer 2020): y = (silu(x a) * (x b)) c."""
    sizes = model.sizes
    up, down = array(model.ffn[layer].up[index]), array(model.ffn[layer].down[index])
    g = Graph(f"expert-{layer:02}-{index:03}")
    g.input("x", ["n", sizes.hidden])
    a = g.add("MatMul", ["x", g.weight("gate", up[:, : sizes.inner])])
    b = g.add("MatMul", ["x", g.weight("up", up[:, sizes.inner :])])
    gated = g.add("Mul", [g.add("Mul", [a, g.add("Sigmoid", [a])]), b])
    g.add("MatMul", [gated, g.weight("down", down)], ["y"])
    g.output("y", ["n", sizes.hidden])
    return g


def array(parameter):
    return parameter.detach().numpy()
