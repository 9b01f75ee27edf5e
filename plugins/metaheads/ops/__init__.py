"""Operations in plain torch and torchvision, with or without a GPU."""
