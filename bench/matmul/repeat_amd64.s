#include "textflag.h"

// func callMany(): not for Go, but for C: callMany(f, args, n) calls f n times
// with the 15 words at args.
TEXT ·callMany(SB), NOSPLIT|NOFRAME, $0-0
	PUSHQ BX
	PUSHQ BP
	PUSHQ R12
	PUSHQ R13
	SUBQ $72, SP
	MOVQ DI, BX
	MOVQ SI, R12
	MOVQ DX, R13
again:
	MOVQ 48(R12), AX
	MOVQ AX, 0(SP)
	MOVQ 56(R12), AX
	MOVQ AX, 8(SP)
	MOVQ 64(R12), AX
	MOVQ AX, 16(SP)
	MOVQ 72(R12), AX
	MOVQ AX, 24(SP)
	MOVQ 80(R12), AX
	MOVQ AX, 32(SP)
	MOVQ 88(R12), AX
	MOVQ AX, 40(SP)
	MOVQ 96(R12), AX
	MOVQ AX, 48(SP)
	MOVQ 104(R12), AX
	MOVQ AX, 56(SP)
	MOVQ 112(R12), AX
	MOVQ AX, 64(SP)
	MOVQ 0(R12), DI
	MOVQ 8(R12), SI
	MOVQ 16(R12), DX
	MOVQ 24(R12), CX
	MOVQ 32(R12), R8
	MOVQ 40(R12), R9
	XORL AX, AX
	CALL BX
	DECQ R13
	JNZ again
	ADDQ $72, SP
	POPQ R13
	POPQ R12
	POPQ BP
	POPQ BX
	RET

// func callManyAddress() uintptr
TEXT ·callManyAddress(SB), NOSPLIT, $0-8
	LEAQ ·callMany(SB), AX
	MOVQ AX, ret+0(FP)
	RET
