//! How each ONNX operator is said in the engine's operators.

use crate::network::Network;
use crate::vector::Vector;
use crate::{attention, lookups, operators, quantized, resize, shaping, windows};

/// Why a vector cannot be said.
pub(crate) type Failure = Box<dyn std::error::Error>;

/// The networks that should compute the node; more than one where several kernels can.
pub(crate) fn networks(vector: &Vector) -> Result<Vec<Network>, Failure> {
    match vector.op.as_str() {
        "Add" | "Sub" | "Mul" | "Div" | "Pow" => operators::binary(vector),
        "Clip" | "Erf" | "Gelu" | "HardSigmoid" | "HardSwish" | "LeakyRelu" | "Sigmoid" | "Sqrt" | "Tanh" => {
            operators::unary(vector)
        }
        "MatMul" => operators::matmul(vector),
        "Gemm" => operators::gemm(vector),
        "Softmax" | "LogSoftmax" => operators::softmax(vector),
        "ArgMax" => operators::arg_max(vector),
        "TopK" => operators::top_k(vector),
        "BatchNormalization" => operators::batch_normalization(vector),
        "LayerNormalization" | "RMSNormalization" => operators::normalization(vector),
        "GroupNormalization" => operators::group_normalization(vector),
        "ReduceMax" | "ReduceMean" | "ReduceSum" => operators::reduce(vector),
        "Conv" => windows::convolution(vector),
        "AveragePool" | "MaxPool" => windows::pool(vector),
        "GlobalAveragePool" | "GlobalMaxPool" => windows::global_pool(vector),
        "Concat" => shaping::concat(vector),
        "Expand" => shaping::expand(vector),
        "Flatten" | "Reshape" | "Squeeze" | "Unsqueeze" => shaping::reshape(vector),
        "Pad" => shaping::pad(vector),
        "Slice" => shaping::slice(vector),
        "Split" => shaping::split(vector),
        "Transpose" => shaping::transpose(vector),
        "Attention" => attention::attention(vector),
        "RotaryEmbedding" => lookups::rotary_embedding(vector),
        "Gather" => lookups::gather(vector),
        "GatherND" => lookups::gather_nd(vector),
        "TensorScatter" => lookups::scatter(vector),
        "Where" => lookups::select(vector),
        "Resize" => resize::resize(vector),
        "QuantizeLinear" => quantized::quantize(vector),
        "DequantizeLinear" => quantized::dequantize(vector),
        "DynamicQuantizeLinear" => quantized::quantize_dynamically(vector),
        "MatMulInteger" => quantized::matmul_integer(vector),
        "ConvInteger" => quantized::convolution_integer(vector),
        "QLinearConv" | "QLinearMatMul" => quantized::quantized_product(vector),
        other => Err(format!("there is no way to say {other}").into()),
    }
}

/// An axis that may be counted from the end.
pub(crate) fn axis(number: i64, axes: usize) -> usize {
    if number < 0 { (number + axes as i64) as usize } else { number as usize }
}
