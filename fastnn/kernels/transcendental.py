import numpy as np
from numba import types
from numba.extending import overload, register_jitable

from fastnn.kernels.cpu.intrinsics import (
    bits_from_float32,
    bits_from_float64,
    float32_from_bits,
    float64_from_bits,
)

_formula = register_jitable(error_model="numpy", fastmath={"contract"}, forceinline=True)

F=np.float32
_ZERO32 = F(0); _HALF32=F(.5); _ONE32=F(1); _TWO32=F(2)
_INF32=F(np.inf); _NAN32=F(np.nan)
_LOG2E32=F(1.4426950408889634)
_LN2_HIGH32 = F(float.fromhex('0x1.62e4p-1'))
_LN2_LOW32 = F(0.6931471805599453 - float.fromhex('0x1.62e4p-1'))
_ROUND32 = F(1.5*2**23+254)
_EXP32=(F(.5),)+tuple(F(c) for c in [0.1666666567325592, 0.04166649281978607, 0.008333547040820122, 0.0013932324945926666, 0.00019760630675591528])
_LOG32=tuple(F(c) for c in ['-0.5', '0.3333333134651184', '-0.2500081956386566', '0.2000124156475067', '-0.1662341058254242', '0.14201585948467255', '-0.13159598410129547', '0.12762141227722168', '-0.07636359333992004'])
_TANH32=tuple(F(c) for c in ['-0.33333316445350647', '0.13332544267177582', '-0.0538475476205349', '0.02105071395635605', '-0.00624284939840436'])
_MIN32=F(2.0**-126)
_2P23=F(2.0**23)
_HS32=np.int32(F(np.sqrt(.5)).view(np.int32))

@_formula
def _reduce32(x):
    shifted = x * _LOG2E32 + _ROUND32
    n = shifted - _ROUND32
    high = x - n * _LN2_HIGH32
    low = n * _LN2_LOW32
    r = high - low
    return bits_from_float32(shifted), r, (high - r) - low

@_formula
def _exp_tail32(r):
    _, c1, c2, c3, c4, c5 = _EXP32
    return r*r*(((((c5 * r + c4) * r + c3) * r + c2) * r + c1) * r + _HALF32)

@_formula
def _clamp32(x, low, high):
    x = low if x < low else x
    return high if x > high else x

@_formula
def exp32(x):
    n, r, _ = _reduce32(_clamp32(x, F(-104), F(89)))
    e = _ONE32 + (r + _exp_tail32(r))
    return e * float32_from_bits(np.int32((n >> 1) << 23)) * float32_from_bits(np.int32(((n+1) >> 1) << 23))

@_formula
def expm132(x):
    n, r, err = _reduce32(_clamp32(x, F(-18), F(89)))
    half = float32_from_bits(np.int32((n - 128) << 23))
    tail = _exp_tail32(r) + (err + err*r)
    base = half - _HALF32
    top = half * r
    s = base + top
    c = (base - s) + top
    y = _TWO32 * (s + (c + half*tail))
    return x if abs(x) < F(2**-25) else y

@_formula
def _log_core32(f, f_low, k):
    _, c1, c2, c3, c4, c5, c6, c7, c8 = _LOG32
    tail = f*f*((((((((c8*f+c7)*f+c6)*f+c5)*f+c4)*f+c3)*f+c2)*f+c1)*f-_HALF32)
    high = k * _LN2_HIGH32
    s = high + f
    return s + (((high - s) + f) + (tail + (f_low + k * _LN2_LOW32)))

@_formula
def log32(x):
    small = x < _MIN32
    i = bits_from_float32(x * _2P23 if small else x)
    e = np.int32(np.int32(i - _HS32) >> 23)
    m = float32_from_bits(np.int32(i - np.int32(e << 23)))
    k = np.float32(e) - (F(23) if small else F(0))
    y = _log_core32(m - _ONE32, _ZERO32, k)
    y = y if x < _INF32 else x
    bad = -_INF32 if x == _ZERO32 else _NAN32
    return bad if x <= _ZERO32 else y

@_formula
def log1p32(x):
    u = _ONE32 + x
    b = u - _ONE32
    lost = (_ONE32 - (u - b)) + (x - b)
    i = bits_from_float32(u)
    e = np.int32(np.int32(i - _HS32) >> 23)
    m = float32_from_bits(np.int32(i - np.int32(e << 23)))
    scale = float32_from_bits(np.int32((128 - e) << 23))
    fh = m - _ONE32
    fl = lost*scale*_HALF32
    f = fh + fl
    y = _log_core32(f, (fh - f) + fl, np.float32(e))
    y = y if u < _INF32 else x
    y = x if x == _ZERO32 else y
    bad = -_INF32 if u == _ZERO32 else _NAN32
    return bad if u <= _ZERO32 else y

@_formula
def _logistic32(y):
    y = y if not y > F(104) else F(104)
    n, r, _ = _reduce32(y)
    w1 = float32_from_bits(np.int32(((508-n) >> 1) << 23))
    w2 = float32_from_bits(np.int32(((509-n) >> 1) << 23))
    s = _ONE32 + r
    w = w1*w2
    t = s + w
    tail = ((s - t) + w) + ((r - (s - _ONE32)) + _exp_tail32(r))
    d = t + tail
    lost = (t - d) + tail
    q = _ONE32/d
    return (q - q*(q*lost))*w1*w2

@_formula
def sigmoid32(x):
    q = _logistic32(abs(x))
    return q if x < _ZERO32 else _ONE32 - q

@_formula
def tanh32(x):
    a = abs(x)
    c0, c1, c2, c3, c4 = _TANH32
    z = a*a
    small = a + a*z*((((c4*z+c3)*z+c2)*z+c1)*z+c0)
    large = _ONE32 - _TWO32*_logistic32(a+a)
    y = small if a < F(.5493) else large
    return float32_from_bits(np.int32(bits_from_float32(y) | (bits_from_float32(x) & np.int32(-2**31))))

D=np.float64
_LOG2E64=D(1.4426950408889634)
_LN2_HIGH64 = D(float.fromhex('0x1.62e42fefa38p-1'))
_LN2_LOW64 = D(float.fromhex('0x1.ef35793c7673p-45'))
_ROUND64=D(1.5*2**52+2046)
_EXP64=tuple(D(c) for c in ['0.5', '0.16666666666666677', '0.04166666666666669', '0.008333333333321776', '0.0013888888888886862', '0.00019841269885343378', '2.4801587294622295e-05', '2.7557245207743145e-06', '2.755731603670726e-07', '2.5108650342229757e-08', '2.0897913868778997e-09'])
_LOG64=tuple(D(c) for c in ['0.6666666666666734', '0.39999999999416647', '0.2857142874202617', '0.22222198605319748', '0.18183562834883704', '0.15314085322883966', '0.14795627942555856'])
_LOG64P=tuple(D(c) for c in ['-0.5', '0.3333333333333314', '-0.24999999999987993', '0.20000000000066775', '-0.16666666669823144', '0.14285714280080508', '-0.12499999691615456', '0.11111111148053844', '-0.10000015200641663', '0.09090923914145464', '-0.08332913642764614', '0.07691530161932916', '-0.07149438512292774', '0.06684585082658437', '-0.06196682456669714', '0.056684035741317085', '-0.05677790850313516', '0.06503423311009338', '-0.05981626153534562', '0.026150792450703772'] )
_TANH64=tuple(D(c) for c in ['-0.333333333333333', '0.1333333333332658', '-0.05396825396373689', '0.021869488385174086', '-0.008863232590254677', '0.003592091917606298', '-0.0014555421225737404', '0.0005884415338283382', '-0.00023337413426151052', '8.33059422755296e-05', '-1.9488308370208753e-05'])
_HS64=np.int64(D(np.sqrt(.5)).view(np.int64))

@_formula
def _reduce64(x):
    shifted = x * _LOG2E64 + _ROUND64
    n = shifted - _ROUND64
    high = x - n * _LN2_HIGH64
    low = n * _LN2_LOW64
    r = high - low
    return bits_from_float64(shifted), r, (high - r) - low

@_formula
def _exp_tail64(r):
    _, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10 = _EXP64
    return r*r*((((((((((c10*r+c9)*r+c8)*r+c7)*r+c6)*r+c5)*r+ c4) * r + c3) * r + c2) * r + c1) * r + D(.5))

@_formula
def _clamp64(x, low, high):
    x = low if x < low else x
    return high if x > high else x

@_formula
def exp64(x):
    n, r, _ = _reduce64(_clamp64(x, D(-746), D(710)))
    e = D(1) + (r + _exp_tail64(r))
    return e * float64_from_bits((n >> 1) << 52) * float64_from_bits(((n+1) >> 1) << 52)

@_formula
def expm164(x):
    n, r, err = _reduce64(_clamp64(x, D(-38), D(710)))
    half = float64_from_bits((n - 1024) << 52)
    tail = _exp_tail64(r) + (err + err*r)
    base = half - D(.5)
    top = half * r
    s = base + top
    c = (base - s) + top
    y = D(2) * (s + (c + half*tail))
    return x if abs(x) < D(2**-54) else y

@_formula
def _log_core64(f, f_low, k):
    c1, c2, c3, c4, c5, c6, c7 = _LOG64
    q=f/(f+D(2))
    z=q*q
    hf=f*f*D(.5)
    #tail = q*(hf + z*((((((c7*z+c6)*z+c5)*z+c4)*z+c3)*z+c2)*z+c1)) - hf
    z2=z*z
    z4=z2*z2
    R=z*((c1+c2*z)+z2*(c3+c4*z)+z4*((c5+c6*z)+c7*z2))
    tail = q*(hf + R) - hf
    high = k * _LN2_HIGH64
    s = high + f
    return s + (((high - s) + f) + (tail + (f_low + k * _LN2_LOW64)))

@_formula
def _log_core64b(f, f_low, k):
    _, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10,c11,c12,c13,c14,c15,c16,c17,c18,c19 = _LOG64P
    t=c19
    t=t*f+c18
    t=t*f+c17
    t=t*f+c16
    t=t*f+c15
    t=t*f+c14
    t=t*f+c13
    t=t*f+c12
    t=t*f+c11
    t=t*f+c10
    t=t*f+c9
    t=t*f+c8
    tail = f*f*((((((((t*f+c7)*f+c6)*f+c5)*f+c4)*f+c3)*f+c2)*f+c1)*f-D(.5))
    high = k * _LN2_HIGH64
    s = high + f
    return s + (((high - s) + f) + (tail + (f_low + k * _LN2_LOW64)))

_M52=D(2.0**52)
_I52=np.int64(_M52.view(np.int64))
@_formula
def log64(x):
    small = x < D(2.0**-1022)
    i = bits_from_float64(x * D(2.0**52) if small else x)
    e = (i - _HS64) >> 52
    m = float64_from_bits(i - (e << 52))
    k = np.float64(e) - (D(52) if small else D(0))
    y = _log_core64(m - D(1), D(0), k)
    y = y if x < D(np.inf) else x
    bad = -D(np.inf) if x == D(0) else D(np.nan)
    return bad if x <= D(0) else y

@_formula
def log64c(x):
    small = x < D(2.0**-1022)
    i = bits_from_float64(x * D(2.0**52) if small else x)
    e = (i - (_HS64-(np.int64(1)<<60))) >> 52
    m = float64_from_bits(i - (e << 52)+(np.int64(1)<<60))
    k = float64_from_bits(e+_I52)-_M52 - (D(52+256) if small else D(256))
    y = _log_core64(m - D(1), D(0), k)
    y = y if x < D(np.inf) else x
    bad = -D(np.inf) if x == D(0) else D(np.nan)
    return bad if x <= D(0) else y

@_formula
def log64b(x):
    small = x < D(2.0**-1022)
    i = bits_from_float64(x * D(2.0**52) if small else x)
    e = (i - _HS64) >> 52
    m = float64_from_bits(i - (e << 52))
    k = np.float64(e) - (D(52) if small else D(0))
    y = _log_core64b(m - D(1), D(0), k)
    y = y if x < D(np.inf) else x
    bad = -D(np.inf) if x == D(0) else D(np.nan)
    return bad if x <= D(0) else y

@_formula
def log1p64(x):
    u = D(1) + x
    b = u - D(1)
    lost = (D(1) - (u - b)) + (x - b)
    i = bits_from_float64(u)
    e = (i - _HS64) >> 52
    m = float64_from_bits(i - (e << 52))
    scale = float64_from_bits((1024 - e) << 52)
    fh = m - D(1)
    fl = lost*scale*D(.5)
    f = fh + fl
    y = _log_core64(f, (fh - f) + fl, np.float64(e))
    y = y if u < D(np.inf) else x
    y = x if x == D(0) else y
    bad = -D(np.inf) if u == D(0) else D(np.nan)
    return bad if u <= D(0) else y

@_formula
def _logistic64(y):
    y = y if not y > D(746) else D(746)
    n, r, _ = _reduce64(y)
    w1 = float64_from_bits(((4092-n) >> 1) << 52)
    w2 = float64_from_bits(((4093-n) >> 1) << 52)
    s = D(1) + r
    w = w1*w2
    t = s + w
    tail = ((s - t) + w) + ((r - (s - D(1))) + _exp_tail64(r))
    d = t + tail
    lost = (t - d) + tail
    q = D(1)/d
    return (q - q*(q*lost))*w1*w2

@_formula
def sigmoid64(x):
    q = _logistic64(abs(x))
    return q if x < D(0) else D(1) - q

@_formula
def tanh64(x):
    a = abs(x)
    c0, c1, c2, c3, c4,c5,c6,c7,c8,c9,c10 = _TANH64
    z = a*a
    small = a + a*z*((((((((((c10*z+c9)*z+c8)*z+c7)*z+c6)*z+c5)*z+c4)*z+c3)*z+c2)*z+c1)*z+c0)
    large = D(1) - D(2)*_logistic64(a+a)
    y = small if a < D(.5493) else large
    return float64_from_bits(bits_from_float64(y) | (bits_from_float64(x) & np.int64(-2**63)))
