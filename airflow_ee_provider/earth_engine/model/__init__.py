"""Operations, their names, errors and limits: values without any input or output."""
