# Compiles a file for a machine without floating-point registers, then searches the result for the means by which
# compilers compute all the same: the x87 stack, or calls of a floating-point library.
#   cmake -D COMPILE=<compiler and options> -D OBJDUMP=<program> -D SOURCE=<file> -D OBJECT=<file> -P <this file>

cmake_minimum_required(VERSION 3.25)

execute_process(COMMAND ${COMPILE} -c ${SOURCE} -o ${OBJECT} ERROR_VARIABLE errors RESULT_VARIABLE result)
if(NOT result EQUAL 0)
  message(NOTICE "${errors}")
  message(FATAL_ERROR "it does not compile without floating-point registers")
endif()

execute_process(COMMAND ${OBJDUMP} --disassemble --reloc --no-show-raw-insn ${OBJECT} OUTPUT_VARIABLE code
                COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCHALL "\n +[0-9a-f]+:[ \t]+[a-z]" instructions "${code}")
list(LENGTH instructions count)
if(code MATCHES "\n +[0-9a-f]+:[ \t]+((f[a-z]|[su]cvtf)[^\n]*)")
  message(NOTICE "floating-point instruction: ${CMAKE_MATCH_1}")
  message(FATAL_ERROR "it computes in floating point")
endif()
# Not, say, __vsnprintf_chk.
if(code MATCHES "R_[A-Z0-9_]+[ \t]+(__[a-z]+[sdtx]f[a-z]*[0-9]?)[^a-z0-9_]")
  message(NOTICE "floating-point function: ${CMAKE_MATCH_1}")
  message(FATAL_ERROR "it computes in floating point")
endif()
if(count EQUAL 0)
  message(FATAL_ERROR "there is no instruction in ${OBJECT}")
endif()
message(NOTICE "none of ${count} instructions computes in floating point")
