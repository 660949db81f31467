"""Operators that hold no multiply-accumulates under the strict convention, each named.

A list, not a default: what is not here and has no rule is reported as not counted.
"""

from __future__ import annotations

__all__ = ["FREE"]

_CREATE = """
empty empty_like empty_strided empty_permuted zeros zeros_like ones ones_like full full_like
scalar_tensor arange linspace logspace eye rand rand_like randn randn_like randint randint_like
randperm new_empty new_empty_strided new_zeros new_ones new_full tril_indices triu_indices
hann_window hamming_window lift lift_fresh lift_fresh_copy bernoulli multinomial normal uniform
random exponential native_dropout dropout feature_dropout alpha_dropout
"""

_MOVE = """
clone copy _to_copy to contiguous detach alias view _unsafe_view reshape _reshape_alias as_strided
expand permute transpose t squeeze unsqueeze select slice narrow split split_with_sizes unsafe_split
unsafe_split_with_sizes chunk unbind unfold diagonal flatten unflatten movedim swapaxes cat stack
hstack vstack concat repeat repeat_interleave tile flip fliplr flipud roll rot90 pad
constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d
replication_pad2d replication_pad3d _pad_circular gather scatter scatter_add scatter_reduce index
index_select index_put _index_put_impl index_add index_copy index_fill _unsafe_index take
take_along_dim masked_fill masked_scatter masked_select where tril triu diag diag_embed embedding
embedding_bag _embedding_bag one_hot pixel_shuffle pixel_unshuffle channel_shuffle
native_channel_shuffle im2col col2im unfold_backward slice_scatter select_scatter
diagonal_scatter as_strided_scatter resize set _resize_output block_diag meshgrid view_as_real
view_as_complex _conj conj resolve_conj resolve_neg _neg_view real imag complex polar
_local_scalar_dense item is_nonzero equal nonzero nonzero_static fill zero dequantize
quantize_per_tensor quantize_per_channel int_repr _nested_tensor_from_mask
_pack_padded_sequence _pad_packed_sequence _pin_memory is_pinned record_stream
"""

_POINTWISE = """
add sub rsub mul div divide true_divide floor_divide remainder fmod neg negative abs absolute sign
sgn reciprocal sqrt rsqrt square pow exp exp2 expm1 log log2 log10 log1p logaddexp logaddexp2 sin
cos tan asin acos atan atan2 sinh cosh tanh asinh acosh atanh erf erfc erfinv lgamma digamma xlogy
special_xlog1py sigmoid logit relu relu6 leaky_relu rrelu rrelu_with_noise prelu _prelu_kernel elu
celu selu gelu silu mish hardtanh hardswish hardsigmoid hardshrink softshrink tanhshrink softplus
softsign log_sigmoid log_sigmoid_forward threshold glu clamp clamp_min clamp_max clip maximum
minimum fmax fmin round floor ceil trunc fix frac sigmoid_ addcmul addcdiv lerp eq ne lt le gt ge
logical_and logical_or logical_xor logical_not bitwise_and bitwise_or bitwise_xor bitwise_not
bitwise_left_shift bitwise_right_shift isnan isinf isfinite isposinf isneginf isin nan_to_num
heaviside hypot copysign nextafter special_erf sinc i0 fake_quantize_per_tensor_affine
fake_quantize_per_channel_affine fake_quantize_per_tensor_affine_cachemask
fake_quantize_per_channel_affine_cachemask fused_moving_avg_obs_fake_quant
_fused_moving_avg_obs_fq_helper _fake_quantize_learnable_per_tensor_affine
_fake_quantize_learnable_per_channel_affine
_fake_quantize_per_tensor_affine_cachemask_tensor_qparams
"""

_REDUCE = """
sum nansum mean nanmean var var_mean std std_mean prod amax amin max min aminmax argmax argmin all
any allclose norm linalg_vector_norm logsumexp cumsum cumprod cummax cummin logcumsumexp median
nanmedian mode sort argsort topk kthvalue count_nonzero histc bincount unique _unique2
unique_consecutive bucketize searchsorted softmax _softmax _safe_softmax log_softmax _log_softmax
cross_entropy_loss
nll_loss_forward nll_loss2d_forward mse_loss l1_loss smooth_l1_loss huber_loss kl_div
binary_cross_entropy binary_cross_entropy_with_logits dist
"""

_NORM_POOL = """
native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training batch_norm
_batch_norm_no_update _batch_norm_with_update _batch_norm_impl_index cudnn_batch_norm
native_layer_norm layer_norm native_group_norm group_norm instance_norm rms_norm _fused_rms_norm
renorm _weight_norm _weight_norm_interface avg_pool1d avg_pool2d avg_pool3d _adaptive_avg_pool2d
_adaptive_avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d max_pool1d max_pool2d max_pool3d
max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices adaptive_max_pool1d
adaptive_max_pool2d adaptive_max_pool3d fractional_max_pool2d fractional_max_pool3d max_unpool2d
max_unpool3d mkldnn_max_pool2d mkldnn_max_pool3d quantized_max_pool1d quantized_max_pool2d
upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d
_upsample_nearest_exact2d upsample_linear1d upsample_bilinear2d upsample_bicubic2d
upsample_trilinear3d _upsample_bilinear2d_aa _upsample_bicubic2d_aa
"""

_QUANTIZED = """
quantized.add quantized.add_relu quantized.mul quantized.mul_relu quantized.add_scalar
quantized.mul_scalar quantized.cat quantized.cat_relu quantized.sigmoid quantized.hardswish
quantized.leaky_relu quantized.relu6 quantized.clamp quantized.batch_norm quantized.batch_norm1d
quantized.batch_norm2d quantized.batch_norm2d_relu quantized.max_pool2d quantized.celu
quantized_decomposed.quantize_per_tensor quantized_decomposed.dequantize_per_tensor
quantized_decomposed.quantize_per_channel quantized_decomposed.dequantize_per_channel
quantized_decomposed.choose_qparams profiler._record_function_enter_new
profiler._record_function_exit prim.device
"""

FREE: frozenset[str] = frozenset(
    f"aten.{name}"
    for group in (_CREATE, _MOVE, _POINTWISE, _REDUCE, _NORM_POOL)
    for name in group.split()
) | frozenset(_QUANTIZED.split())
